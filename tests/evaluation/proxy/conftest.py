import pytest


@pytest.fixture
def one_thread():
    torch = pytest.importorskip("torch", reason="models need torch: pip install 'mira-select[train]'")
    pytest.importorskip("transformers", reason="models need transformers: pip install 'mira-select[train]'")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(before)
