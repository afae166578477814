import pytest

from buildkit.cache.blobs import Blobs
from buildkit.cache.ledger import Ledger
from buildkit.declare.project import parse_project
from buildkit.engine.shop import Shop
from buildkit.errors import Interrupted
from buildkit.events import StepProgress


def test_a_step_ends_soon_after_a_stop_was_asked_for(tmp_path):
    said = []
    ledger = Ledger(tmp_path / "ledger.sqlite")
    shop = Shop(parse_project("", tmp_path), Blobs(tmp_path / "cache"), ledger, said.append, jobs=1)
    report = shop.progress("pack")
    report(1)
    shop.stop.set()
    with pytest.raises(Interrupted):
        report(2)
    assert said == [StepProgress(step="pack", done=1)]
    ledger.close()
