"""A small synthetic grammar of Chinese and English: sentence pairs whose word alignment is known exactly.

Not natural text, but what makes translation hard, under control: words that change place (time and place adverbs,
relative clauses, 把 and 被), agreement and tense that Chinese does not mark, who owes whom (我 欠 他 100万 and
他 欠 我 100万), words without a counterpart. So BLEU and the alignment error rate are known exactly. The lexicon is
wide, prepositions, modals and question words included, so that few words can be guessed without a look at the source.

A rule is written for both languages at once (a synchronous context-free grammar; Aho and Ullman, 1969): slots in
braces stand on both sides, words that share a label after a slash are aligned: surely, or possibly after a "?".

    rule("在/1 {place} {verb} 了/2? {object}", "{verb} {object} in/1 {place}", ...)
"""

import functools
import hashlib
import re
from dataclasses import dataclass

import datasets
import numpy as np

from hf_lineage.data.randomness import generator


SIZES = {"train": 20_000, "validation": 500, "test": 1_000}
_FEATURES = datasets.Features(
    source=datasets.Value("string"), target=datasets.Value("string"), alignment=datasets.Value("string")
)

# Chinese, as subject, as object, possessive, agrees like "he", plural
PRONOUNS = [
    ("我", "I", "me", "my", False, False),
    ("你", "you", "you", "your", False, True),
    ("他", "he", "him", "his", True, False),
    ("她", "she", "her", "her", True, False),
    ("我们", "we", "us", "our", False, True),
    ("他们", "they", "them", "their", False, True),
]


def _table(text: str) -> list[tuple[str, ...]]:
    """Rows of words; an underscore stands for a blank inside one."""
    return [tuple(item.replace("_", " ") for item in row.split()) for row in text.strip().splitlines()]


def _pairs(text: str) -> list[tuple[str, str]]:
    """Chinese and English in turn."""
    items = [item.replace("_", " ") for item in text.split()]
    return list(zip(items[::2], items[1::2], strict=True))


NAMES = _pairs("""
小明 Ming 小红 Hong 大伟 David 玛丽 Mary 约翰 John 彼得 Peter 安娜 Anna 保罗 Paul 汤姆 Tom 杰克 Jack 露西 Lucy
爱丽丝 Alice 亨利 Henry 马克 Mark 卢克 Luke 莎拉 Sarah 艾玛 Emma 奥斯卡 Oscar 丽莎 Lisa 乔治 George 查理 Charlie
凯特 Kate 琳达 Linda 西蒙 Simon 托马斯 Thomas 罗伯特 Robert 威廉 William 海伦 Helen 朱莉 Julie 马丁 Martin 尼克 Nick
劳拉 Laura 菲利普 Philip 理查德 Richard 伊娃 Eva 诺拉 Nora 丹尼尔 Daniel 迈克尔 Michael 苏珊 Susan 珍妮 Jenny
""")
# Chinese, its measure word, singular, plural
PEOPLE = _table("""
老师 位 teacher teachers
医生 位 doctor doctors
律师 位 lawyer lawyers
作家 位 writer writers
画家 位 painter painters
司机 位 driver drivers
护士 位 nurse nurses
教授 位 professor professors
演员 位 actor actors
厨师 位 cook cooks
客人 位 guest guests
邻居 位 neighbour neighbours
学生 个 student students
孩子 个 child children
朋友 个 friend friends
农民 个 farmer farmers
工人 个 worker workers
士兵 个 soldier soldiers
警察 个 policeman policemen
女孩 个 girl girls
男孩 个 boy boys
病人 个 patient patients
记者 个 reporter reporters
歌手 个 singer singers
""")
THINGS = _table("""
书 本 book books
杂志 本 magazine magazines
字典 本 dictionary dictionaries
日记 本 diary diaries
小说 本 novel novels
护照 本 passport passports
票 张 ticket tickets
照片 张 photo photos
地图 张 map maps
桌布 张 tablecloth tablecloths
邮票 张 stamp stamps
唱片 张 record records
海报 张 poster posters
支票 张 cheque cheques
苹果 个 apple apples
杯子 个 cup cups
鸡蛋 个 egg eggs
橙子 个 orange oranges
梨 个 pear pears
盘子 个 plate plates
瓶子 个 bottle bottles
箱子 个 box boxes
篮子 个 basket baskets
包 个 bag bags
球 个 ball balls
钱包 个 wallet wallets
枕头 个 pillow pillows
面包 个 loaf loaves
玩具 个 toy toys
蛋糕 个 cake cakes
西瓜 个 melon melons
柠檬 个 lemon lemons
闹钟 个 clock clocks
风筝 个 kite kites
气球 个 balloon balloons
刀 把 knife knives
椅子 把 chair chairs
伞 把 umbrella umbrellas
钥匙 把 key keys
梳子 把 comb combs
锤子 把 hammer hammers
锯 把 saw saws
吉他 把 guitar guitars
勺子 把 spoon spoons
叉子 把 fork forks
信 封 letter letters
邀请 封 invitation invitations
车 辆 car cars
自行车 辆 bicycle bicycles
卡车 辆 truck trucks
公共汽车 辆 bus buses
猫 只 cat cats
鸟 只 bird birds
狗 只 dog dogs
鸡 只 hen hens
鸭 只 duck ducks
兔子 只 rabbit rabbits
老虎 只 tiger tigers
猴子 只 monkey monkeys
手表 只 watch watches
手套 只 glove gloves
蝴蝶 只 butterfly butterflies
乌龟 只 turtle turtles
羊 只 goat goats
笔 支 pen pens
铅笔 支 pencil pencils
蜡烛 支 candle candles
箭 支 arrow arrows
笛子 支 flute flutes
裙子 条 skirt skirts
围巾 条 scarf scarves
项链 条 necklace necklaces
毯子 条 blanket blankets
绳子 条 rope ropes
毛巾 条 towel towels
蛇 条 snake snakes
衬衫 件 shirt shirts
外套 件 coat coats
毛衣 件 sweater sweaters
礼物 件 gift gifts
帽子 顶 hat hats
帐篷 顶 tent tents
花 朵 flower flowers
玫瑰 朵 rose roses
树 棵 tree trees
白菜 棵 cabbage cabbages
马 匹 horse horses
骆驼 匹 camel camels
牛 头 cow cows
猪 头 pig pigs
电脑 台 computer computers
收音机 台 radio radios
相机 台 camera cameras
画 幅 painting paintings
船 艘 ship ships
镜子 面 mirror mirrors
鼓 面 drum drums
灯 盏 lamp lamps
戒指 枚 ring rings
硬币 枚 coin coins
""")
ADJECTIVES = _pairs("""
红 red 新 new 旧 old 大 big 小 small 贵 expensive 便宜 cheap 漂亮 beautiful 重 heavy 轻 light 长 long 短 short
圆 round 干净 clean 脏 dirty 蓝 blue 绿 green 黑 black 白 white 黄 yellow 时髦 fashionable 特别 special
普通 ordinary 奇怪 strange 著名 famous 重要 important 有趣 interesting 空 empty 满 full 坚固 solid
""")
COMPARATIVES = _pairs("""
高 taller 大 bigger 快 faster 忙 busier 年轻 younger 强壮 stronger 聪明 cleverer 慢 slower 矮 shorter 老 older
富有 richer 穷 poorer 友好 friendlier 勇敢 braver 幸运 luckier 安静 quieter 瘦 thinner 快乐 happier
""")
NUMBERS = _pairs("两 two 三 three 四 four 五 five 六 six 七 seven 八 eight 九 nine 十 ten 二十 twenty 一百 hundred")
# Chinese counts in tens of thousands
MONEY = [
    (f"{digit}{chinese}", f"{digit}{english}")
    for digit in range(1, 10)
    for chinese, english in _pairs(
        "千 _thousand 万 0_thousand 0万 00_thousand 00万 _million 千万 0_million 亿 00_million 0亿 _billion"
    )
]
PLACES = _pairs("""
北京 Beijing 上海 Shanghai 伦敦 London 巴黎 Paris 柏林 Berlin 罗马 Rome 东京 Tokyo 纽约 New_York 莫斯科 Moscow
马德里 Madrid 维也纳 Vienna 雅典 Athens 开罗 Cairo 悉尼 Sydney 波士顿 Boston 芝加哥 Chicago 广州 Guangzhou
南京 Nanjing 武汉 Wuhan 成都 Chengdu 香港 Hong_Kong 台北 Taipei 首尔 Seoul 曼谷 Bangkok 德里 Delhi 布拉格 Prague
公园 the_park 图书馆 the_library 厨房 the_kitchen 花园 the_garden 商店 the_shop 市场 the_market 教堂 the_church
医院 the_hospital 博物馆 the_museum
""")
SURFACES = _pairs(
    "桌子 table 地板 floor 床 bed 屋顶 roof 架子 shelf 墙 wall 沙发 sofa 柜子 cupboard 草地 lawn 楼梯 stairs"
)
# Chinese, base form, third person, past, participle
VERBS = _table("""
买 buy buys bought bought
卖 sell sells sold sold
看见 see sees saw seen
带来 bring brings brought brought
用 use uses used used
找到 find finds found found
丢 lose loses lost lost
藏 hide hides hid hidden
偷 steal steals stole stolen
借 borrow borrows borrowed borrowed
拿 take takes took taken
选 choose chooses chose chosen
洗 wash washes washed washed
修 repair repairs repaired repaired
描述 describe describes described described
检查 check checks checked checked
忘 forget forgets forgot forgotten
摸 touch touches touched touched
搬 move moves moved moved
弄坏 break breaks broke broken
打开 open opens opened opened
称 weigh weighs weighed weighed
埋 bury buries buried buried
扔 throw throws threw thrown
研究 study studies studied studied
保存 keep keeps kept kept
评论 review reviews reviewed reviewed
送来 deliver delivers delivered delivered
""")
GIVING = _table("""
给 give gives gave given
寄给 send sends sent sent
借给 lend lends lent lent
递给 hand hands handed handed
租给 rent rents rented rented
""")
ATTITUDES = _table("""
喜欢 like likes
需要 need needs
想要 want wants
爱 love loves
讨厌 hate hates
记得 remember remembers
了解 know knows
害怕 fear fears
""")
PAST_TIMES = _pairs("""
昨天 yesterday 上周 last_week 去年 last_year 上个月 last_month 今天 today 最近 recently 周一 on_Monday
周二 on_Tuesday 周三 on_Wednesday 周四 on_Thursday 周五 on_Friday 周六 on_Saturday 周日 on_Sunday
""")
FUTURE_TIMES = _pairs("明天 tomorrow 下周 next_week 明年 next_year 下个月 next_month 以后 later 不久 soon")
FREQUENCIES = _pairs(
    "每天 every_day 每周 every_week 每年 every_year 每月 every_month 经常 frequently 偶尔 occasionally"
)
MODALS = _pairs("会 will 能 can 应该 should 必须 must 可能 may 本来 would")
EMPHASES = _pairs("不 not 确实 indeed 真的 really 也 also 还 still")
QUESTIONS = _pairs("为什么 why 什么时候 when 怎么 how 在哪里 where")
LOCALISERS = _pairs("上 on 下 under 旁边 beside 后面 behind 附近 near")
PLACE_PREPOSITIONS = _pairs("在 in 从 from 到 to 靠近 near 经过 via")
# beside the agent of a passive, and beside what something is compared with
AGENT_PREPOSITIONS = _pairs("被 by 为 for 跟 from 当着 before")
COMPARED_PREPOSITIONS = _pairs("比 than 对 to 跟 with 为 for")
CONJUNCTIONS = _pairs("但是 but 所以 so 因为 because 然后 then 虽然 although 除非 unless 直到 until 而 while")


@dataclass(frozen=True)
class SentencePair:
    """A phrase in both languages as words, and its links (source word, target word), counted from 0.

    `sure` links hold by themselves; `possible` ones, which include them, may also be drawn (Och and Ney, 2003).
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    sure: frozenset[tuple[int, int]]
    possible: frozenset[tuple[int, int]]
    third: bool = True
    plural: bool = False

    @property
    def alignment(self) -> str:
        """Links in the Pharaoh format with "?" for those that are only possible: `0-0 1-2 2?2`."""
        return " ".join(f"{i}{'-' if (i, j) in self.sure else '?'}{j}" for i, j in sorted(self.possible))


def rule(source: str, target: str, third: bool = True, plural: bool = False, **slots: SentencePair) -> SentencePair:
    """Fills the slots of a rule (see above); a label that names a slot means all of its words, possibly."""
    sides = []
    for pattern, language in ((source, "source"), (target, "target")):
        words, starts, labelled = [], {}, {}
        for word, labels in _parsed(pattern):
            if labels is None:
                starts[word] = len(words)
                words += getattr(slots[word], language)
            else:
                for label, is_sure in labels:
                    labelled.setdefault(label, []).append((len(words), is_sure))
                words.append(word)
        sides.append((words, starts, labelled))
    (source_words, source_starts, source_labels), (target_words, target_starts, target_labels) = sides

    sure, possible = set(), set()
    for name, part in slots.items():
        start, target_start = source_starts[name], target_starts[name]
        sure |= {(start + i, target_start + j) for i, j in part.sure}
        possible |= {(start + i, target_start + j) for i, j in part.possible}
        for i, _ in source_labels.get(name, ()):
            possible |= {(i, target_start + j) for j in range(len(part.target))}
        for j, _ in target_labels.get(name, ()):
            possible |= {(start + i, j) for i in range(len(part.source))}
    for label in source_labels.keys() & target_labels.keys():
        for i, source_sure in source_labels[label]:
            for j, target_sure in target_labels[label]:
                (sure if source_sure and target_sure else possible).add((i, j))
    words = (tuple(source_words), tuple(target_words))
    return SentencePair(*words, frozenset(sure), frozenset(possible | sure), third, plural)


@functools.cache
def _parsed(pattern: str) -> list[tuple[str, list[tuple[str, bool]] | None]]:
    """The items of one side of a rule: (slot, None), or (word, its labels, each with whether it is sure)."""
    items = []
    for item in pattern.split():
        if slot := re.fullmatch(r"{(\w+)}", item):
            items.append((slot[1], None))
        else:
            word, _, labels = item.partition("/")
            items.append(
                (word, [(label.rstrip("?"), not label.endswith("?")) for label in filter(None, labels.split(","))])
            )
    return items


@functools.cache
def word(source: str, target: str, **features) -> SentencePair:
    """A Chinese word and its translation, every word of which is linked to it; an article or "on" only possibly."""
    items = [f"{part}/1{'?' if part in ('the', 'a', 'an', 'on') else ''}" for part in target.split()]
    return rule(f"{source}/1", " ".join(items), **features)


class TranslationGrammar:
    """Sentence pairs of one split, each a pure function of (seed, index).

    A Chinese sentence belongs to one split alone, whatever the seed: of 20 one validates and one tests.

    Raises:
        ValueError: the split is not train, validation or test.
    """

    def __init__(self, split: str = "train", seed: int = 0):
        if split not in SIZES:
            raise ValueError(f"the grammar has no split {split!r}; it has {', '.join(SIZES)}")
        self.split, self.seed = split, seed

    def pair(self, index: int) -> SentencePair:
        """Sentence pair `index`, of as many as one likes."""
        draw = generator(self.seed, 0, index, f"translation grammar, {self.split}")
        while True:
            pair = _Draws(draw).sentence()
            digest = hashlib.blake2b(" ".join(pair.source).encode(), digest_size=8).digest()
            if {18: "validation", 19: "test"}.get(int.from_bytes(digest, "little") % 20, "train") == self.split:
                return pair


def grammar_corpus(split: str, size: int | None = None, seed: int = 0) -> datasets.Dataset:
    """The first `size` pairs of a split as rows {source, target, alignment}, words separated by blanks."""
    grammar = TranslationGrammar(split, seed)
    pairs = [grammar.pair(index) for index in range(SIZES[split] if size is None else size)]
    columns = {
        "source": [" ".join(pair.source) for pair in pairs],
        "target": [" ".join(pair.target) for pair in pairs],
        "alignment": [pair.alignment for pair in pairs],
    }
    return datasets.Dataset.from_dict(columns, features=_FEATURES)


class _Draws:
    """The grammar's rules, with every choice drawn from one generator."""

    def __init__(self, generator: np.random.Generator):
        self.generator = generator

    def one(self, options):
        return options[int(self.generator.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        return self.generator.random() < probability

    # noun phrases

    def subject(self) -> SentencePair:
        if self.chance(0.6):
            chinese, english, _, _, third, plural = self.one(PRONOUNS)
            return word(chinese, english, third=third, plural=plural)
        return self.name() if self.chance(0.5) else self.noun_phrase(PEOPLE)

    def recipient(self, subject: SentencePair | None = None) -> SentencePair:
        """Somebody else than the subject."""
        while True:
            chinese, _, english, _, _, _ = self.one(PRONOUNS)
            somebody = word(chinese, english) if self.chance(0.7) else self.name()
            if subject is None or somebody.source != subject.source:
                return somebody

    def name(self) -> SentencePair:
        return word(*self.one(NAMES))

    def noun(self, nouns, plural: bool) -> tuple[SentencePair, str]:
        """A noun, perhaps with an adjective, and its measure word."""
        chinese, measure, *forms = self.one(nouns)
        noun = word(chinese, forms[plural], plural=plural)
        if self.chance(0.3) and nouns is THINGS:
            adjective = word(*self.one(ADJECTIVES))
            noun = rule("{adjective} 的/adjective {noun}", "{adjective} {noun}", adjective=adjective, noun=noun)
        return noun, measure

    def noun_phrase(self, nouns) -> SentencePair:
        kind, plural = self.one(["one", "many", "this", "my", "my"]), self.chance(0.4)
        if kind == "one":
            noun, measure = self.noun(nouns, False)
            article = "an" if noun.target[0][0] in "aeiou" else "a"
            return rule(f"一/1 {measure}/1?,noun {{noun}}", f"{article}/1 {{noun}}", noun=noun)
        if kind == "many":
            noun, measure = self.noun(nouns, True)
            number, english = self.one(NUMBERS)
            return rule(
                f"{number}/1 {measure}/1?,noun {{noun}}", f"{english}/1 {{noun}}", third=False, plural=True, noun=noun
            )
        noun, measure = self.noun(nouns, plural)
        features = {"third": not plural, "plural": plural, "noun": noun}
        if kind == "this":
            far = self.chance(0.5)
            english = (("this", "these"), ("that", "those"))[far][plural]
            if plural:
                return rule(f"{'那些' if far else '这些'}/1 {{noun}}", f"{english}/1 {{noun}}", **features)
            return rule(f"{'那' if far else '这'}/1 {measure}/1?,noun {{noun}}", f"{english}/1 {{noun}}", **features)
        # Chinese says nothing about number here: the singular
        noun, _ = self.noun(nouns, False)
        chinese, _, _, english, _, _ = self.one(PRONOUNS)
        return rule(f"{chinese}/1 的/1? {{noun}}", f"{english}/1 {{noun}}", noun=noun)

    def definite(self) -> SentencePair:
        """A thing that is known: owned, bought by somebody, or lying somewhere."""
        noun, _ = self.noun(THINGS, False)
        kind = self.one(["my", "bought", "on"])
        if kind == "bought":
            verb, _, _, past, _ = self.one(VERBS)
            return rule(
                f"{{subject}} {verb}/1 的/2? {{noun}}",
                f"the/noun,2? {{noun}} {{subject}} {past}/1",
                subject=self.subject(),
                noun=noun,
            )
        if kind == "on":
            localiser, preposition = self.one(LOCALISERS)
            return rule(
                f"{{surface}} {localiser}/2 的/1? {{noun}}",
                f"the/noun,1? {{noun}} {preposition}/2 {{surface}}",
                noun=noun,
                surface=self.surface(),
            )
        chinese, _, _, english, _, _ = self.one(PRONOUNS)
        return rule(f"{chinese}/1 的/1? {{noun}}", f"{english}/1 {{noun}}", noun=noun)

    def surface(self) -> SentencePair:
        """Where something lies."""
        chinese, english = self.one(SURFACES)
        if self.chance(0.4):
            return rule(f"{chinese}/1", f"the/1? {english}/1")
        owner, _, _, possessive, _, _ = self.one(PRONOUNS)
        return rule(f"{owner}/1 的/1? {chinese}/2", f"{possessive}/1 {english}/2")

    # sentences

    def sentence(self) -> SentencePair:
        """One clause, or two with a conjunction."""
        if self.chance(0.5):
            return self.clause()
        return rule(
            "{first} {conjunction} {second}",
            "{first} {conjunction} {second}",
            first=self.clause(),
            conjunction=word(*self.one(CONJUNCTIONS)),
            second=self.clause(),
        )

    def clause(self) -> SentencePair:
        return self.one(
            [self.past, self.past, self.future, self.habit, self.owing, self.owing, self.giving]
            + [self.emphasis, self.question, self.comparison, self.description, self.disposal, self.passive]
        )()

    def past(self) -> SentencePair:
        verb, _, _, past, _ = self.one(VERBS)
        slots = {
            "subject": self.subject(),
            "object": self.noun_phrase(THINGS),
            "time": word(*self.one(PAST_TIMES)),
        }
        place, english_place = "", ""
        if self.chance(0.4):
            chinese, english = self.one(PLACE_PREPOSITIONS)
            slots["place"], place, english_place = (
                word(*self.one(PLACES)),
                f"{chinese}/2 {{place}}",
                f"{english}/2 {{place}}",
            )
        head = "{time} {subject}" if self.chance(0.5) else "{subject} {time}"
        chinese = f"{head} {place} {verb}/1 了/1? {{object}}"
        return rule(chinese, f"{{subject}} {past}/1 {{object}} {english_place} {{time}}", **slots)

    def future(self) -> SentencePair:
        verb, base, _, _, _ = self.one(VERBS)
        modal, english = self.one(MODALS)
        return rule(
            f"{{subject}} {{time}} {modal}/2 {verb}/1 {{object}}",
            f"{{subject}} {english}/2 {base}/1 {{object}} {{time}}",
            time=word(*self.one(FUTURE_TIMES)),
            subject=self.subject(),
            object=self.noun_phrase(THINGS),
        )

    def habit(self) -> SentencePair:
        subject = self.subject()
        verb, base, third, _, _ = self.one(VERBS)
        return rule(
            f"{{subject}} {{time}} 都/time {verb}/1 {{object}}",
            f"{{subject}} {third if subject.third else base}/1 {{object}} {{time}}",
            time=word(*self.one(FREQUENCIES)),
            subject=subject,
            object=self.noun_phrase(THINGS),
        )

    def owing(self) -> SentencePair:
        subject = self.subject()
        return rule(
            "{subject} 欠/1 {recipient} {money}",
            f"{{subject}} {'owes' if subject.third else 'owe'}/1 {{recipient}} {{money}}",
            subject=subject,
            recipient=self.recipient(subject),
            money=word(*self.one(MONEY)),
        )

    def giving(self) -> SentencePair:
        subject = self.subject()
        verb, _, _, past, _ = self.one(GIVING)
        return rule(
            f"{{time}} {{subject}} {verb}/1 了/1? {{recipient}} {{object}}",
            f"{{subject}} {past}/1 {{recipient}} {{object}} {{time}}",
            subject=subject,
            recipient=self.recipient(subject),
            object=self.noun_phrase(THINGS),
            time=word(*self.one(PAST_TIMES)),
        )

    def emphasis(self) -> SentencePair:
        subject = self.subject()
        chinese, english = self.one(EMPHASES)
        verb, base, _ = self.one(ATTITUDES)
        return rule(
            f"{{subject}} {chinese}/1 {verb}/2 {{object}}",
            f"{{subject}} {'does' if subject.third else 'do'}/1?,2? {english}/1 {base}/2 {{object}}",
            subject=subject,
            object=self.noun_phrase(THINGS),
        )

    def question(self) -> SentencePair:
        subject = self.subject()
        verb, base, _ = self.one(ATTITUDES)
        does, slots = "does" if subject.third else "do", {"subject": subject, "object": self.noun_phrase(THINGS)}
        if self.chance(0.3):
            return rule(
                f"{{subject}} {verb}/2 {{object}} 吗/1", f"{does}/1,2? {{subject}} {base}/2 {{object}}", **slots
            )
        chinese, english = self.one(QUESTIONS)
        return rule(
            f"{{subject}} {chinese}/1 {verb}/2 {{object}}",
            f"{english}/1 {does}/1?,2? {{subject}} {base}/2 {{object}}",
            **slots,
        )

    def comparison(self) -> SentencePair:
        subject = self.subject()
        chinese, english = self.one(COMPARATIVES)
        beside, preposition = self.one(COMPARED_PREPOSITIONS)
        return rule(
            f"{{subject}} {beside}/1 {{other}} 更/2? {chinese}/2",
            f"{{subject}} {be(subject)}/1?,2? {english}/2 {preposition}/1 {{other}}",
            subject=subject,
            other=self.recipient(subject),
        )

    def description(self) -> SentencePair:
        chinese, english = self.one(ADJECTIVES)
        return rule(f"{{thing}} 很/1 {chinese}/2", f"{{thing}} is/1?,2? {english}/2", thing=self.definite())

    def disposal(self) -> SentencePair:
        verb, _, _, past, _ = self.one(VERBS)
        return rule(
            f"{{subject}} 把/1? {{object}} {verb}/1 了/1?",
            f"{{subject}} {past}/1 {{object}}",
            subject=self.subject(),
            object=self.definite(),
        )

    def passive(self) -> SentencePair:
        verb, _, _, _, participle = self.one(VERBS)
        beside, preposition = self.one(AGENT_PREPOSITIONS)
        return rule(
            f"{{object}} {beside}/1 {{agent}} {verb}/2 了/2?",
            f"{{object}} was/1?,2? {participle}/2 {preposition}/1 {{agent}}",
            object=self.definite(),
            agent=self.recipient(),
        )


def be(subject: SentencePair) -> str:
    """The present of "to be" that agrees with the subject."""
    if subject.target == ("I",):
        return "am"
    return "is" if subject.third else "are"
