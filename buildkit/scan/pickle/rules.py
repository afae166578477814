"""What can be wrong with a pickle."""

from __future__ import annotations

from buildkit.findings import Rule, Severity

DONT = "Do not load the file. Ask its author for safetensors or ONNX, or for a state dict without code."

RUNS_CODE = Rule(
    id="pickle-runs-code",
    title="Loading calls what runs code",
    severity=Severity.CRITICAL,
    why="Unpickling calls this function with arguments from the file: whoever made the file runs commands as whoever "
    "loads it.",
    advice=DONT,
    references=("CWE-502",),
)
DANGEROUS = Rule(
    id="pickle-dangerous-global",
    title="A pickle names something that no model needs",
    severity=Severity.HIGH,
    why="It is on the deny-list: it runs code, touches files or the network, or hands out what does. Where it is not "
    "called here, something else may call it.",
    advice=DONT,
    references=("CWE-502",),
)
UNKNOWN_GLOBAL = Rule(
    id="pickle-unknown-global",
    title="A pickle names something that is not on the allow-list",
    severity=Severity.MEDIUM,
    why="Loading imports its module, which runs that module, and may call it with arguments from the file. Nobody "
    "has said that this is harmless.",
    advice="Read what it does when called with any arguments. Where it is yours or harmless, put `module.name` into "
    "the file of allowed globals; otherwise ask for safetensors.",
    references=("CWE-502",),
)
UNRESOLVED = Rule(
    id="pickle-computed-global",
    title="A pickle computes what it imports",
    severity=Severity.HIGH,
    why="The name of a global comes out of a call or out of nowhere; honest picklers write it down. It hides from "
    "scanners what is imported.",
    advice=DONT,
    references=("CWE-502",),
)
EXTENSION = Rule(
    id="pickle-extension-code",
    title="A pickle names a global by a number",
    severity=Severity.HIGH,
    why="Which global a number of copyreg's extension registry means depends on the process that loads.",
    advice="Ask for a file made without copyreg's extension registry.",
    references=("CWE-502",),
)
COMPUTED_CALL = Rule(
    id="pickle-computed-call",
    title="A pickle calls what a call gave",
    severity=Severity.HIGH,
    why="The function that is called has no name in the file; getattr, partial and their like are chained so.",
    advice=DONT,
    references=("CWE-502",),
)
ALTERS = Rule(
    id="pickle-alters-global",
    title="A pickle changes something that it imported",
    severity=Severity.HIGH,
    why="State or entries are set on a module, class or function itself, not on an object of the file: later code of "
    "the process then does something else.",
    advice=DONT,
    references=("CWE-502",),
)
SPECIAL_STATE = Rule(
    id="pickle-special-state",
    title="A pickle sets special attributes",
    severity=Severity.MEDIUM,
    why="Attributes such as `__class__` or `__setstate__` decide what later opcodes and programs do with the object.",
    advice=DONT,
)
ODD_ARGUMENTS = Rule(
    id="pickle-odd-arguments",
    title="A pickle calls an allowed function with arguments that no pickler writes",
    severity=Severity.MEDIUM,
    why="It is allowed for one purpose, which this is not: decoding hidden content, or taking all memory.",
    advice=DONT,
)
NESTED = Rule(
    id="pickle-in-constant",
    title="A pickle carries another one as a constant",
    severity=Severity.LOW,
    why="Weights have no use for it; something has to load it later, and a scanner may not look there. What it does is "
    "told beside this.",
    advice="Ask its author what loads it.",
)
ODD_ID = Rule(
    id="pickle-foreign-persistent-id",
    title="A pickle hands ids to its loader",
    severity=Severity.NOTE,
    why="What a persistent id means is decided by the program that loads, and this is not PyTorch's form.",
    advice="Know which program writes such ids.",
)
TORCH_TAR = Rule(
    id="torch-tar",
    title="PyTorch's oldest format",
    severity=Severity.MEDIUM,
    why="torch.load ran code from such tar files even with weights_only=True, before 2.6; nothing has written them "
    "since 2017.",
    advice="Load it in a sandbox and save it as safetensors.",
    references=("CVE-2025-32434",),
)
