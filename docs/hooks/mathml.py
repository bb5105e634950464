"""Equations of docstrings as MathML, which browsers draw themselves: no script, no font, no request.

Reads the part of TeX's mathematics that the docstrings use; anything else is shown as it is written.
"""

from __future__ import annotations

import re
from html import escape

TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[0-9]+(?:\.[0-9]+)?|[^\s\\]")


def _pairs(words: str) -> dict[str, str]:
    """Names and signs in turns."""
    found = words.split()
    return dict(zip(found[::2], found[1::2], strict=True))


LETTERS = _pairs("""
    alpha α beta β gamma γ delta δ epsilon ϵ varepsilon ε zeta ζ eta η theta θ kappa κ lambda λ mu μ nu ν xi ξ
    pi π rho ρ sigma σ tau τ phi φ varphi φ chi χ psi ψ omega ω ell ℓ Gamma Γ Delta Δ Theta Θ Lambda Λ Pi Π Sigma Σ
    Phi Φ Psi Ψ Omega Ω
""")
OPERATORS = _pairs("""
    sum ∑ prod ∏ int ∫ cdot ⋅ times × pm ± le ≤ leq ≤ ge ≥ geq ≥ ne ≠ neq ≠ equiv ≡ approx ≈ sim ∼ propto ∝ ll ≪ gg ≫
    mid | vert | lvert | rvert | Vert ‖ lVert ‖ rVert ‖ langle ⟨ rangle ⟩ lfloor ⌊ rfloor ⌋ lceil ⌈ rceil ⌉
    nabla ∇ partial ∂ infty ∞ to → mapsto ↦ leftarrow ← Rightarrow ⇒ top ⊤ perp ⊥ in ∈ notin ∉ cup ∪ cap ∩ subset ⊂
    setminus ∖ forall ∀ exists ∃ ldots … dots … cdots ⋯ circ ∘ odot ⊙ otimes ⊗ oplus ⊕ star ⋆ colon :
""")
NAMES = frozenset(
    re.findall("[A-Za-z]+", "log ln exp min max sup inf arg det tr Pr sin cos tan tanh softmax rms mean cov var")
)
LIMITS = {"min", "max", "sup", "inf"}
SPACES = {",": "0.17em", ";": "0.28em", "quad": "1em", "qquad": "2em", " ": "0.3em", "!": "0"}
ACCENTS = {
    "bar": "¯",
    "overline": "¯",
    "hat": "^",
    "widehat": "^",
    "tilde": "~",
    "widetilde": "~",
    "vec": "→",
    "dot": "˙",
}
SIZES = ("big", "Big", "left", "right", "bigl", "bigr")
CALLIGRAPHIC, DOUBLE = 0x1D49C, 0x1D538
RARE = {"E": "ℰ", "L": "ℒ", "H": "ℋ", "I": "ℐ", "B": "ℬ", "F": "ℱ", "M": "ℳ", "R": "ℛ"}
RARE_DOUBLE = {"R": "ℝ", "N": "ℕ", "Z": "ℤ", "P": "ℙ", "C": "ℂ"}
BARE = {"*": "∗", "-": "−", "'": "′"}


class UnknownTeX(ValueError):
    """TeX that is not understood here."""


def mathml(tex: str, *, display: bool = False) -> str:
    """A `<math>` element in one line.

    Raises
    ------
    UnknownTeX
        If it cannot be drawn.

    Examples
    --------
    >>> mathml("a_i^2").count("msubsup")
    2
    """
    drawn = _Reader(tex).everything()
    block = ' display="block"' if display else ""
    return f'<math xmlns="http://www.w3.org/1998/Math/MathML"{block}><mrow>{drawn}</mrow></math>'


class _Reader:
    """Reads tokens from left to right; a method reads as much as its name says and returns MathML."""

    def __init__(self, tex: str) -> None:
        self.tex, self.tokens, self.at = tex, TOKEN.findall(tex), 0

    def everything(self) -> str:
        return self.row(end="")

    def row(self, end: str = "}") -> str:
        parts = []
        while (token := self.peek()) != end:
            if not token:
                raise UnknownTeX(f"'{end}' is missing in {self.tex!r}")
            parts.append(self.scripted())
        if end:
            self.take()
        return "".join(parts)

    def scripted(self) -> str:
        base = self.one()
        marks = {}
        while self.peek() in ("_", "^"):
            mark = self.take()
            marks[mark] = self.one()
        if not marks:
            return base
        limits = base.startswith('<mo movablelimits="true"')
        if set(marks) == {"_", "^"}:
            kind = "munderover" if limits else "msubsup"
            return f"<{kind}>{base}{marks['_']}{marks['^']}</{kind}>"
        ((mark, script),) = marks.items()
        kind = ("munder" if limits else "msub") if mark == "_" else ("mover" if limits else "msup")
        return f"<{kind}>{base}{script}</{kind}>"

    def one(self) -> str:
        token = self.take()
        if token == "{":
            return f"<mrow>{self.row()}</mrow>"
        if token.startswith("\\"):
            return self.command(token[1:])
        if token[0].isdigit():
            return f"<mn>{token}</mn>"
        if token.isalpha():
            return f"<mi>{token}</mi>"
        return _operator(BARE.get(token, token))

    def command(self, name: str) -> str:
        if name in ("frac", "tfrac", "dfrac"):
            return f"<mfrac>{self.argument()}{self.argument()}</mfrac>"
        if name == "sqrt":
            return f"<msqrt>{self.one()}</msqrt>"
        if name in ACCENTS:
            return f'<mover accent="true">{self.one()}<mo stretchy="false">{ACCENTS[name]}</mo></mover>'
        if name in ("mathrm", "text", "operatorname", "mathbf"):
            return f'<mi mathvariant="normal">{"".join(re.findall("[A-Za-z]", self.words()))}</mi>'
        if name in ("mathcal", "mathbb"):
            return "".join(f"<mi>{_styled(letter, name)}</mi>" for letter in self.words())
        if name in SIZES:
            return _operator(self.take().lstrip("\\"), stretchy=True)
        if name in SPACES:
            return f'<mspace width="{SPACES[name]}"/>'
        if name in NAMES:
            return f'<mo movablelimits="true">{name}</mo>' if name in LIMITS else f"<mi>{name}</mi><mo>&#8289;</mo>"
        if name in ("sum", "prod"):
            return f'<mo movablelimits="true">{OPERATORS[name]}</mo>'
        if name in LETTERS:
            return f"<mi>{LETTERS[name]}</mi>"
        if name in OPERATORS:
            return _operator(OPERATORS[name])
        if name in ("{", "}", "|"):
            return _operator({"|": "‖"}.get(name, name))
        raise UnknownTeX(f"'\\{name}' in {self.tex!r}")

    def argument(self) -> str:
        """An argument of a fraction, which may be a single digit of a number (1 and 2 of frac12)."""
        token = self.peek()
        if token[:1].isdigit() and len(token) > 1:
            self.tokens[self.at : self.at + 1] = list(token)
        return self.one()

    def words(self) -> str:
        """Letters of a group, or the single next one."""
        token = self.take()
        if token != "{":
            return token
        letters = []
        while (token := self.take()) != "}":
            letters.append(token)
        return "".join(letters)

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        if self.at >= len(self.tokens):
            raise UnknownTeX(f"{self.tex!r} ends too early")
        self.at += 1
        return self.tokens[self.at - 1]


def _operator(sign: str, *, stretchy: bool = False) -> str:
    fence = "()[]|‖{}"
    fixed = "" if stretchy or sign not in fence else ' stretchy="false"'
    return f"<mo{fixed}>{escape(sign)}</mo>"


def _styled(letter: str, style: str) -> str:
    rare, start = (RARE, CALLIGRAPHIC) if style == "mathcal" else (RARE_DOUBLE, DOUBLE)
    return rare.get(letter) or chr(start + ord(letter) - ord("A"))
