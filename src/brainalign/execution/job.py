"""What identifies a run."""

from __future__ import annotations

from dataclasses import dataclass

from brainalign.execution.session import Session
from brainalign.files import sha256_json
from brainalign.recipes import Recipe


@dataclass(frozen=True)
class Job:
    """What identifies a run.

    Attributes
    ----------
    recipe : Recipe
        Layer and pooling may be `auto`.
    subject : str
    split, seed : int
    """

    recipe: Recipe
    subject: str
    split: int = 0
    seed: int = 0

    def config_hash(self, session: Session) -> str:
        """sha256 over recipe, data, subject, split and seed: the name of the run (its first 12 digits are enough)."""
        prior = session.prior(self.subject, self.recipe)
        people = {self.subject, *session.training_subjects(self.subject)}
        return sha256_json(
            {
                "recipe": self.recipe.facts(),
                "dataset": session.data_facts(people),
                "subject": self.subject,
                "training_subjects": session.training_subjects(self.subject),
                "protocol": session.protocol,
                "split": session.split(self.subject, self.split).fingerprint,
                "seed": self.seed,
                "texts": None if prior is None else dict(prior.facts),
            }
        )
