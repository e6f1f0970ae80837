"""The words of the synthetic zh-en grammar, by their roles in a sentence."""

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
# prepositions before the agent of a passive, and in comparisons
AGENT_PREPOSITIONS = _pairs("被 by 为 for 跟 from 当着 before")
COMPARED_PREPOSITIONS = _pairs("比 than 对 to 跟 with 为 for")
CONJUNCTIONS = _pairs("但是 but 所以 so 因为 because 然后 then 虽然 although 除非 unless 直到 until 而 while")
