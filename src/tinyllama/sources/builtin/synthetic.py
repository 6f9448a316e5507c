"""Text made here by small grammars: the same on every machine, for tests and first runs with no network."""

# ruff: noqa: RUF001  # Chinese punctuation is meant

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class _Dice:
    """A stream of draws that is the same in every Python version (the `random` module promises less)."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._count = 0

    def draw(self, sides: int) -> int:
        """A number from 0 to `sides` - 1."""
        self._count += 1
        digest = hashlib.sha256(f"{self._seed}/{self._count}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % sides

    def pick(self, choices: Sequence[str]) -> str:
        """One of the choices."""
        return choices[self.draw(len(choices))]


def arithmetic_texts() -> Iterator[str]:
    """300 texts of eight lines each: sums, comparisons and two-step proofs that hold."""
    for index in range(300):
        dice = _Dice(f"arithmetic/{index}")
        yield "".join(_arithmetic_line(dice) + "\n" for _ in range(8))


def _arithmetic_line(dice: _Dice) -> str:
    a, b, c = dice.draw(90) + 2, dice.draw(90) + 2, dice.draw(12) + 2
    low, high = sorted((a, b))
    return dice.pick(
        [
            f"{a} + {b} = {a + b}",
            f"{high} - {low} = {high - low}",
            f"{a} * {c} = {a * c}",
            f"{a * c} / {c} = {a}, since {a} * {c} = {a * c}.",
            f"If x + {a} = {a + b} then x = {b}.",
            f"Since {a} + {b} = {b} + {a}, both are {a + b}.",
            f"{2 * a} is even, so {2 * a} + 1 = {2 * a + 1} is odd.",
            f"{high + 1} > {low}, because {high + 1} - {low} = {high + 1 - low} > 0.",
            f"({a} + {b}) * {c} = {a} * {c} + {b} * {c} = {a * c} + {b * c} = {(a + b) * c}",
            f"Proof that {a * c} is divisible by {c}: {a * c} = {c} * {a}.",
            f"The sum of {a}, {b} and {c} is {a + b + c}.",
            f"{a} mod {c} = {a % c}, for {a} = {a // c} * {c} + {a % c}.",
        ]
    )


def chinese_texts() -> Iterator[str]:
    """400 paragraphs of four to seven sentences each."""
    for index in range(400):
        dice = _Dice(f"chinese/{index}")
        topic = dice.pick(_PEOPLE)
        yield "".join(_chinese_sentence(dice, topic) for _ in range(4 + dice.draw(4))) + "\n"


_TIMES = ["今天", "昨天", "明天早上", "每个周末", "去年夏天", "春天的时候", "晚饭以后", "下雨的时候"]
_PEOPLE = [
    "小明",
    "老师",
    "我的朋友",
    "他的妹妹",
    "这位医生",
    "那个学生",
    "王先生",
    "我们",
    "村里的老人",
    "她",
]
_PLACES = ["学校", "图书馆", "公园", "河边", "城里的市场", "火车站", "山上", "厨房", "办公室", "花园"]
_ACTS = {
    "读": ["一本新书", "今天的报纸", "朋友的信", "古老的故事"],
    "买": ["三个苹果", "一双鞋", "新鲜的蔬菜", "两张车票"],
    "做": ["晚饭", "数学作业", "一个木头盒子", "简单的实验"],
    "看见": ["一只白色的猫", "许多小鸟", "远处的灯光", "美丽的月亮"],
    "学习": ["中文", "音乐", "怎样写程序", "历史和地理"],
    "喝": ["一杯热茶", "牛奶", "清凉的水", "妈妈做的汤"],
}
_FEELINGS = ["高兴", "安静", "有点累", "非常满意", "觉得很有意思", "很忙"]
_LINKS = ["因为天气很好", "虽然时间不多", "如果明天有空", "听到这个消息以后", "为了帮助别人"]


def _chinese_sentence(dice: _Dice, topic: str) -> str:
    act = dice.pick(list(_ACTS))
    thing = dice.pick(_ACTS[act])
    time, place, other = dice.pick(_TIMES), dice.pick(_PLACES), dice.pick(_PEOPLE)
    return dice.pick(
        [
            f"{time}，{topic}在{place}{act}{thing}。",
            f"{dice.pick(_LINKS)}，{topic}去{place}{act}{thing}。",
            f"{topic}和{other}一起{act}{thing}，大家都{dice.pick(_FEELINGS)}。",
            f"{other}问：“{topic}在哪里？”有人说：“在{place}。”",
            f"{place}离这里不远，走路要{dice.draw(50) + 5}分钟。",
            f"{time}{topic}{dice.pick(_FEELINGS)}，所以想{act}{thing}。",
        ]
    )
