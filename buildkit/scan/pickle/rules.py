"""Rules for pickles."""

from __future__ import annotations

from buildkit.findings import Rule, Severity

DO_NOT_LOAD = "Do not load the file. Ask its author for safetensors or ONNX, or for a state dict without code."

RUNS_CODE = Rule(
    id="pickle-runs-code",
    title="Loading the pickle runs code",
    severity=Severity.CRITICAL,
    why="Unpickling calls this function with arguments from the file: its author runs commands as the user who "
    "loads it.",
    advice=DO_NOT_LOAD,
    references=("CWE-502",),
)
DANGEROUS = Rule(
    id="pickle-dangerous-global",
    title="A pickle names a dangerous global that no model needs",
    severity=Severity.HIGH,
    why="It is on the deny-list: it runs code, accesses files or the network, or returns something that does. Even "
    "if it is not called here, something else may call it.",
    advice=DO_NOT_LOAD,
    references=("CWE-502",),
)
UNKNOWN_GLOBAL = Rule(
    id="pickle-unknown-global",
    title="A pickle names a global that is not on the allow-list",
    severity=Severity.MEDIUM,
    why="Loading imports and so runs its module, and may call it with arguments from the file. Nobody has confirmed "
    "that this is harmless.",
    advice="Read what it does when called with arbitrary arguments. If it is yours or harmless, add `module.name` to "
    "the allow-file; otherwise ask for safetensors.",
    references=("CWE-502",),
)
UNRESOLVED = Rule(
    id="pickle-computed-global",
    title="A pickle computes the name of a global",
    severity=Severity.HIGH,
    why="The name of a global is the result of a call, or unknown; honest picklers write it as a constant. This "
    "hides from scanners what is imported.",
    advice=DO_NOT_LOAD,
    references=("CWE-502",),
)
AMBIGUOUS = Rule(
    id="pickle-ambiguous",
    title="Loaders read the pickle differently",
    severity=Severity.HIGH,
    why="What one unpickler takes for an argument, another one skips or takes for opcodes; no pickler writes that. "
    "This hides from scanners what is imported.",
    advice=DO_NOT_LOAD,
    references=("CWE-502",),
)
EXTENSION = Rule(
    id="pickle-extension-code",
    title="A pickle names a global by a number",
    severity=Severity.HIGH,
    why="Which global a number in copyreg's extension registry means depends on the process that loads the file.",
    advice="Ask for a file made without copyreg's extension registry.",
    references=("CWE-502",),
)
COMPUTED_CALL = Rule(
    id="pickle-computed-call",
    title="A pickle calls the result of a call",
    severity=Severity.HIGH,
    why="The function that is called has no name in the file; getattr, partial and similar are chained this way.",
    advice=DO_NOT_LOAD,
    references=("CWE-502",),
)
ALTERS = Rule(
    id="pickle-alters-global",
    title="A pickle changes a global that it imported",
    severity=Severity.HIGH,
    why="State or entries are set on a module, class or function itself, not on an object of the file: later code of "
    "the process then behaves differently.",
    advice=DO_NOT_LOAD,
    references=("CWE-502",),
)
SPECIAL_STATE = Rule(
    id="pickle-special-state",
    title="A pickle sets special attributes",
    severity=Severity.MEDIUM,
    why="Attributes such as `__class__` or `__setstate__` decide what later opcodes and programs do with the object.",
    advice=DO_NOT_LOAD,
)
CODE_STATE = Rule(
    id="pickle-code-state",
    title="A pickle sets a state that is code",
    severity=Severity.CRITICAL,
    why="The class evaluates a text of its state, as Python, when the state is set.",
    advice=DO_NOT_LOAD,
    references=("CWE-95",),
)
ODD_ARGUMENTS = Rule(
    id="pickle-odd-arguments",
    title="A pickle calls an allowed function with arguments that no pickler writes",
    severity=Severity.MEDIUM,
    why="The function is allowed for one purpose only; this call may decode hidden content or exhaust memory.",
    advice=DO_NOT_LOAD,
)
EXHAUSTS = Rule(
    id="pickle-exhausts-memory",
    title="Loading the pickle exhausts memory or time",
    severity=Severity.HIGH,
    why="A few bytes make the loader allocate or compute without end: the process, or the machine, stops serving.",
    advice=DO_NOT_LOAD,
    references=("CWE-400",),
)
STRAY = Rule(
    id="pickle-stray-call",
    title="Opcodes of a pickle call a global",
    severity=Severity.HIGH,
    why="The content is of another format, or no pickle that could be followed; yet a loader that starts at the right "
    "byte calls this function.",
    advice=DO_NOT_LOAD,
    references=("CWE-502",),
)
FALSE_TYPE = Rule(
    id="pickle-false-dtype",
    title="A pickle describes a NumPy type falsely",
    severity=Severity.HIGH,
    why="NumPy believes the state of a type. A false one makes it take bytes of the file for pointers, or read and "
    "write other memory: the process crashes, or runs code.",
    advice=DO_NOT_LOAD,
    references=("CWE-843",),
)
NESTED = Rule(
    id="pickle-in-constant",
    title="A pickle contains another one as a constant",
    severity=Severity.LOW,
    why="Weights need none; something has to load it later, and a scanner may not look there. What it does is "
    "reported separately.",
    advice="Ask the author what loads it.",
)
ODD_ID = Rule(
    id="pickle-foreign-persistent-id",
    title="A pickle passes foreign ids to its loader",
    severity=Severity.NOTE,
    why="The program that loads the file decides what a persistent id means, and this one is not PyTorch's.",
    advice="Find out which program writes such ids.",
)
TORCH_TAR = Rule(
    id="torch-tar",
    title="PyTorch's oldest format",
    severity=Severity.MEDIUM,
    why="Before 2.6, torch.load ran code from such tar files even with weights_only=True; nothing has written them "
    "since 2017.",
    advice="Load it in a sandbox and save it as safetensors.",
    references=("CVE-2025-32434",),
)
