"""Texts that the views show unless the user gives others: English and Chinese of common words, written for it."""

SENTENCES = [
    "The old king of France was born in the city and lived there for many years.",
    "我欠他一百万,他却说是我的朋友。",
]
# one passage for what needs a longer text: gates, gradients, sentence pairs
PASSAGES = [
    "The city lies on the north side of the river. It was built in the first century by the people of the coast. "
    "In the early years the town was small, and most of the men were farmers. The king (who lived in the south) gave "
    "the land to his son. The war began in 1870 and ended two years later. Many people left the country, but some of "
    "them came back after the war. The new government opened a school, a hospital and a large market near the old "
    'church. "The city is free," the mayor said, "and it will remain free." The river is used for trade and for '
    "fishing. In the winter the water is cold, and the ships do not leave the harbour. A bridge of stone was built in "
    "1905. It is one of the oldest bridges in the country. Today the city has about two hundred thousand people, two "
    "universities and a small airport. The language of the city is French, but many people also speak German.",
    "这座城市在河的北边。城市很老,有一千年的历史。很久以前,这里的人都住在山上。后来他们下山,在河边种地。"
    "国王把土地给了他的儿子。战争开始以后,很多人离开了家。战争结束了,有些人回来了。现在城市里有两所大学和一个机场。",
]
# a word in two senses, four sentences each
SENSES = {
    "bank": {
        "money": [
            "The bank gave the company a large loan.",
            "She works at a bank in London.",
            "He took the money to the bank.",
            "The bank was founded in the last century.",
        ],
        "river": [
            "They walked along the bank of the river.",
            "The village stands on the north bank of the river.",
            "The water rose over the bank after the storm.",
            "Trees grow on the west bank of the lake.",
        ],
    },
    "second": {
        "order": [
            "He was the second president of the country.",
            "She won the second prize in the race.",
            "The second part of the book is shorter.",
            "It is the second largest city in the world.",
        ],
        "time": [
            "It takes less than a second to start.",
            "Light travels very far in one second.",
            "The engine turns twenty times per second.",
            "He waited for a second and then left.",
        ],
    },
    "Python": {
        "animal": [
            "He was bitten by a Python in the forest.",
            "The Python is a large animal of the forest.",
        ],
        "language": [
            "Python is a popular programming language.",
            "The program was written in Python.",
        ],
    },
    "苹果": {
        "fruit": ["我每天吃一个苹果。", "树上的苹果红了。", "这个苹果很甜。"],
        "company": ["苹果公司发布了新的手机。", "他在苹果公司工作。", "苹果的电脑很贵。"],
    },
}
# the same words in two orders
WORD_ORDERS = [
    ("The dog saw the man", "The man saw the dog"),
    ("我欠他100万", "他欠我100万"),
    # for models that read words
    ("我 欠 他 100万", "他 欠 我 100万"),
]
MASKED = ["The city of Paris is the capital of France and lies on the river.", "这座城市在河的北边,有一千年的历史。"]
ATTENDED = [
    "The animal did not cross the street because it was too tired.",
    "这只动物没有过马路,因为它太累了。",
]
# per phenomenon: (good, bad)
MINIMAL_PAIRS = {
    "number of the verb": [
        ("The children are in the house.", "The children is in the house."),
        ("The city is very old.", "The city are very old."),
        ("These books were written in the last century.", "These books was written in the last century."),
        ("The men have left the country.", "The men has left the country."),
        ("His brother was a member of the party.", "His brother were a member of the party."),
    ],
    "number across a phrase": [
        ("The king of the islands was old.", "The king of the islands were old."),
        ("The members of the group are young.", "The members of the group is young."),
        ("The author of these books is French.", "The author of these books are French."),
        ("The ships in the harbour were small.", "The ships in the harbour was small."),
        ("The history of the two countries is long.", "The history of the two countries are long."),
    ],
    "determiner and noun": [
        ("He lived there for many years.", "He lived there for many year."),
        ("She wrote this book.", "She wrote this books."),
        ("These cities are large.", "These city are large."),
        ("It was one of the first states.", "It was one of the first state."),
        ("There are several reasons for the war.", "There are several reason for the war."),
    ],
    "reflexive": [
        ("The woman saw herself.", "The woman saw himself."),
        ("The men described themselves.", "The men described himself."),
        ("The king called himself a god.", "The king called herself a god."),
        ("His mother called herself a doctor.", "His mother called himself a doctor."),
    ],
    "word order": [
        ("He was born in the city.", "He was born the in city."),
        ("The war ended in the same year.", "The war ended the in same year."),
        ("It is used by many people.", "It is used many by people."),
        ("She did not know the answer.", "She not did know the answer."),
    ],
}
ANALOGIES = [
    ("he", "his", "she"),
    ("france", "paris", "england"),
    ("france", "french", "germany"),
    ("father", "mother", "son"),
    ("is", "are", "was"),
    ("large", "larger", "small"),
    ("男", "女", "父亲"),
    ("中国", "北京", "日本"),
]
WORD_GROUPS = {
    "countries": "germany france england italy russia spain china japan india greece".split(),
    "numbers": "two three four five six seven eight nine ten".split(),
    "months": "january february march april june july august september october november december".split(),
    "family": "father mother son daughter brother sister wife husband".split(),
    "sciences": "physics chemistry mathematics biology economics philosophy psychology medicine".split(),
    "国家": "中国 日本 美国 法国 英国 德国".split(),
}
# a translation model is shown those that it knows
TO_TRANSLATE = [
    "Ein kleines Mädchen spielt mit einem Hund im Wasser .",
    "这座城市在河的北边。",
    "The city lies on the north side of the river .",
]
