"""A project of one source in Chinese and one in mixed languages, with recorded replies, for whole runs.

Good records explain (因为, 所以, 例如); poor ones chat. The teacher's scores follow the share of sentences that
explain.
"""

import json
import random
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from mira.cli.app import app

GROUP = "text_group_A"
NAMES = ("推理深度", "表述清晰度", "事实准确性", "Practical Actionability")
EXPLAINS = (
    "因为锁在队列清空之前就被释放了,所以第二个进程可能会拿到同一个任务。",
    "由于浮点数的精度有限,比较两个结果时应该使用误差范围,而不是直接判断相等。",
    "例如,当列表为空时,函数会返回默认值,因此调用者不必再检查一次。",
    "缓存必须在写入数据库之后失效,否则读者会看到过期的内容。",
    "把连接池的大小设为核心数的两倍,是因为大部分时间都花在等待磁盘上。",
    "这个索引只在查询条件包含前缀列时才有效,所以列的顺序很重要。",
    "为了避免死锁,所有线程都按照相同的顺序获取锁。",
    "递归的深度与树的高度成正比,因此平衡树不会让栈溢出。",
    "哈希表的平均查找时间是常数,但是最坏情况下会退化成线性时间。",
    "如果超时设置得太短,重试会让服务器的负载进一步升高,从而造成雪崩。",
    "编译器会把循环不变的表达式移到循环外面,于是每次迭代少做一次乘法。",
    "日志里的时间都用协调世界时记录,因为服务器分布在不同的时区。",
    "该方法先排序再去重,所以它的复杂度由排序决定。",
    "增量备份只保存变化的部分,因此恢复时需要按顺序应用每一份备份。",
    "请求头里的长度字段必须与正文一致,否则代理会拒绝这个请求。",
    "生成器逐个产生元素,因此处理大文件时内存占用保持不变。",
    "由于事务隔离级别是读已提交,两次查询之间的数据可能会改变。",
    "签名先于加密,是为了让接收者能够证明内容的来源。",
    "矩阵乘法满足结合律但不满足交换律,所以变换的先后次序不能随意调换。",
    "归并排序是稳定的,因此相等元素的相对位置不会改变。",
)
CHATS = (
    "今天天气真好啊!", "大家快来看看吧!", "这个东西特别棒,真的特别棒。", "哈哈哈,太有意思了!", "点击关注,不迷路哦。",
    "我昨天晚上吃了火锅,味道不错。", "小编也不知道是怎么回事。", "转发这条消息,好运会一直陪着你。", "周末一起去爬山吗?",
    "反正就是那样,你懂的。", "家人们,谁懂啊!", "今年的樱花开得比去年早。", "他说他不来了,就这样。",
    "限时优惠,先到先得!",
    "猫又把杯子打翻了。", "路上堵车堵了两个小时。", "这部电影的结局我没看懂。", "妹妹养了两只小兔子。",
)  # fmt: skip
ENGLISH = (
    "The worker releases the lock before the queue is empty.",
    "Retry with a longer timeout because the server is slow to start.",
    "See the changelog for details.",
    "def first(items): return items[0] if items else None",
    "The index only helps when the prefix column is part of the query.",
    "Thanks, that worked for me!",
)


class ChineseWorld:
    """A folder with the sources `zh` and `mixed`, a rubric with Chinese names, and recorded replies."""

    def __init__(self, folder: Path, n: int = 60) -> None:
        self.folder, self.run = folder, folder / "run"
        rng = random.Random(0)
        self.texts: dict[str, dict[str, str]] = {"zh": {}, "mixed": {}}
        self.good: dict[str, float] = {}
        replies = []
        for source, texts in self.texts.items():
            for i in range(n):
                share = rng.random()
                said = [rng.choice(EXPLAINS if rng.random() < share else CHATS) for _ in range(rng.randint(5, 9))]
                if source == "mixed":
                    for place in range(0, len(said), 3):
                        said.insert(place, rng.choice(ENGLISH))
                id = f"{source}-{i}"
                texts[id] = f"第{i}条:" + "".join(said) if source == "zh" else f"# Note {i}\n" + " ".join(said)
                self.good[id] = sum(s in EXPLAINS for s in said) / len(said)
                replies.append({"id": id, "source": source, "replicate": 0, "reply": self._reply(self.good[id], i)})
        near = self.texts["zh"]["zh-0"].replace("第0条", "第零条") + "完。"
        self.texts["zh"] |= {"zh-near": near, "zh-exact": f"\n {self.texts['zh']['zh-1']}\n\n"}
        for source, texts in self.texts.items():
            self._write(f"{source}.jsonl", [{"id": id, "text": text} for id, text in texts.items()])
        self._write("replies.jsonl", replies)
        self._write("rubric.jsonl", [{"anchor_dim": name} for name in NAMES])
        target = [{"text": "".join(rng.sample(EXPLAINS, 6))} for _ in range(30)]
        self._write("target.jsonl", target)
        self.settings: dict[str, Any] = {
            "sources": [{"name": s, "path": f"{s}.jsonl", "language": s} for s in self.texts],
            "teacher": {"replies": "replies.jsonl", "failure_budget": "5%"},
            "group": {"given": {GROUP: list(self.texts)}},
            "discover": {"rubrics": {GROUP: "rubric.jsonl"}},
            "label": {"replicates": 0},
            "distill": {"folds": 2},
            "score": {"workers": 1},
            "reliability": {"bootstrap": 100, "min_n": 5},
            "flags": {"near": True, "jaccard": "60%"},
            "select": {
                "scope": "group", "budget": "50%",
                "dsir": {"target": {"name": "target", "path": "target.jsonl"}, "min_words": 20, "noise": False},
            },
        }  # fmt: skip

    def mira(self, *words: str) -> str:
        """Run a command on the settings; return what it printed."""
        verb, *options = words
        path = self.folder / "mira.yaml"
        path.write_text(json.dumps(self.settings, ensure_ascii=False), encoding="utf-8")
        result = CliRunner().invoke(app, [verb, str(path), *options], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    def _write(self, name: str, rows: list[dict[str, Any]]) -> None:
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (self.folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")

    @staticmethod
    def _reply(good: float, i: int) -> str:
        scores = [10 * good, 8 * good + 1, 9 * good, i % 11]
        lines = [
            f"[A{j}] {name}: {s:.1f}/10 — 因为解释了原因"
            for j, (name, s) in enumerate(zip(NAMES, scores, strict=True), 1)
        ]
        closing = [
            f"overall: {100 * good:.0f}",
            "training_recommendation: keep",
            "domain_tag: 文档",
            "brief: 一段说明。",
        ]
        return "\n".join([*lines, *closing])
