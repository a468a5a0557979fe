"""One synthetic person with few photos, and an editor of a rig that has learnt nothing."""

import pytest

from drig.diffusion.network import Rig
from drig.editing import Editor
from drig.evaluation.subjects import Subject, synthetic_subject
from drig.faces.estimators import load_estimator
from drig.faces.head import load_head
from tests.pipelines.conftest import RIG


@pytest.fixture(scope="session")
def editor() -> Editor:
    head = load_head("open")
    return Editor(Rig.from_seed(RIG, 0), head, load_estimator("fit", head))


@pytest.fixture(scope="session")
def subject(editor: Editor) -> Subject:
    return synthetic_subject(editor, 0, album=3, unseen=2)
