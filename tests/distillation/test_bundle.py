import json
import os
import pickle
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mira.distillation.bundle import check_safe, install, pull, push, read_bundle, seal, verify, weights_hash
from mira.errors import InputError, MiraError
from mira.run_folder.files import write_json
from support.fake_hub import fake_hub


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "student"
    (folder / "sub").mkdir(parents=True)
    write_json(folder / "bundle.json", {"kind": "encoder", "rubric": "abc"})
    (folder / "rubric.jsonl").write_text('{"slot": "A1"}\n')
    (folder / "weights.safetensors").write_bytes(bytes(range(256)))
    (folder / "sub" / "note.txt").write_text("é")
    return folder


def same(a, b):
    return check_safe(a) == check_safe(b) and all((a / n).read_bytes() == (b / n).read_bytes() for n in check_safe(a))


def test_a_folder_is_pushed_and_pulled_byte_for_byte(bundle, tmp_path):
    there, back = tmp_path / "there", tmp_path / "deep" / "back"
    assert push(bundle, str(there)) == str(there)
    assert pull(str(there), back) == back
    assert same(bundle, back)
    assert verify(back)["kind"] == "encoder"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "student", "there"], "nothing temporary is left"


def test_the_sums_are_those_of_sha256sum(bundle):
    seal(bundle)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=bundle, check=True)


def test_a_push_replaces_an_older_bundle_and_nothing_else(bundle, tmp_path):
    there = tmp_path / "there"
    push(bundle, str(there))
    (bundle / "rubric.jsonl").write_text('{"slot": "A1", "name": "new"}\n')
    seal(bundle)
    push(bundle, str(there))
    assert same(bundle, there)
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(InputError, match="not empty and is not a bundle"):
        push(bundle, str(other))
    assert (other / "cat.jpg").read_bytes() == b"cat"


@pytest.mark.parametrize("damage", ["changed", "missing", "extra"])
def test_damage_is_found_before_the_old_bundle_is_touched(bundle, tmp_path, damage):
    there, mine = tmp_path / "there", tmp_path / "mine"
    push(bundle, str(there))
    pull(str(there), mine)
    if damage == "changed":
        (there / "weights.safetensors").write_bytes(bytes(range(255, -1, -1)))
    elif damage == "missing":
        (there / "rubric.jsonl").unlink()
    else:
        (there / "more.txt").write_text("x")
    with pytest.raises(InputError, match=r"SHA256SUMS"):
        pull(str(there), mine)
    assert verify(mine)


@pytest.mark.parametrize("name", ["head.pkl", "pytorch_model.bin", "optimizer.pt", "modeling_x.py", "sub/x.so", "run"])
def test_formats_that_can_run_code_are_refused(bundle, name):
    (bundle / name).write_bytes(pickle.dumps(print))
    with pytest.raises(InputError, match="may not hold"):
        read_bundle(bundle)
    with pytest.raises(InputError, match="may not hold"):
        push(bundle, str(bundle.parent / "there"))
    assert not (bundle.parent / "there").exists()


def test_links_and_remote_code_are_refused(bundle):
    write_json(bundle / "config.json", {"auto_map": {"AutoModel": "someone/repo--modeling.Model"}})
    with pytest.raises(InputError, match="auto_map"):
        read_bundle(bundle)
    for name, value in {
        "config.json": {"text_config": {"auto_map": {}}},
        "generation_config.json": {"parts": [{"auto_map": {}}]},
    }.items():
        write_json(bundle / name, value)
        with pytest.raises(InputError, match=rf"{name}: field 'auto_map'"):
            read_bundle(bundle)
        (bundle / name).unlink()
    (bundle / "host.txt").symlink_to("/etc/hostname")
    with pytest.raises(InputError, match="links"):
        read_bundle(bundle)


@pytest.mark.parametrize("line", ["x" * 64 + "  ../../etc/passwd", "x" * 64 + "  /etc/passwd", "abc  a.txt", "garbage"])
def test_sums_that_point_outside_are_refused(bundle, line):
    seal(bundle)
    (bundle / "SHA256SUMS").write_text(line + "\n")
    with pytest.raises(InputError, match="SHA256SUMS:1"):
        verify(bundle)


def test_what_is_no_bundle_is_told(bundle, tmp_path):
    with pytest.raises(InputError, match="no bundle"):
        read_bundle(tmp_path)
    with pytest.raises(InputError, match="expected 'sft'"):
        read_bundle(bundle, "sft")
    with pytest.raises(InputError, match="no such folder"):
        pull(str(tmp_path / "nowhere"), tmp_path / "x")
    with pytest.raises(InputError, match="same folder"):
        push(bundle, str(bundle))
    (bundle / "bundle.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        read_bundle(bundle)


def test_install_leaves_the_old_one_when_it_is_no_bundle(tmp_path):
    staged, taken = tmp_path / "staged", tmp_path / "taken"
    staged.mkdir()
    taken.mkdir()
    (taken / "a").write_text("a")
    with pytest.raises(InputError):
        install(staged, taken)
    assert (taken / "a").read_text() == "a"


HUB_SCRIPT = """
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from mira.distillation.bundle import pull, push
print(push(Path(sys.argv[1]), "hf://me/student"))
pull("hf://me/student", Path(sys.argv[2]))
"""


def hub_run(script, url, home, *arguments):
    environment = os.environ | {
        "HF_ENDPOINT": url,
        "HF_TOKEN": "hf_test",
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
    }
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_real_hub_client_pushes_and_pulls(bundle, tmp_path):
    pytest.importorskip("huggingface_hub")
    seal(bundle)
    with fake_hub() as hub:
        done = hub_run(HUB_SCRIPT, hub.url, tmp_path / "home", bundle, tmp_path / "back")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == f"hf://me/student@{hub.oid('me/student')}"
        assert json.loads(hub.repos["me/student"]["bundle.json"])["kind"] == "encoder"
        assert hub.private["me/student"]
        assert same(bundle, tmp_path / "back")
        hub.repos["me/student"]["evil.pkl"] = b"x"
        done = hub_run(
            HUB_SCRIPT.replace("print(push", "0 and (push"), hub.url, tmp_path / "home", bundle, tmp_path / "back"
        )
        assert "InputError" in done.stderr
        assert "may not hold '.pkl'" in done.stderr
        assert same(bundle, tmp_path / "back")


HUB_CALLS = ["pull(address, Path(sys.argv[2]))", "push(Path(sys.argv[1]), address)"]
HUB_ERROR = """
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from mira.distillation.bundle import pull, push
address = "hf://ADDRESS"
try:
    CALL
except Exception as error:
    print(type(error).__name__, error)
"""


def hub_error(call, address, url, home, bundle):
    script = HUB_ERROR.replace("ADDRESS", address).replace("CALL", call)
    done = hub_run(script, url, home, bundle, home / "pulled")
    lines = done.stdout.splitlines()
    assert lines, done.stderr
    assert lines[0].startswith(f"MiraError hf://{address}: "), done.stdout + done.stderr
    assert len(lines) == 2, "a line, and the way out"
    return done.stdout


@pytest.mark.parametrize("call", HUB_CALLS)
def test_a_hub_out_of_reach_and_a_wrong_name_are_told_with_a_fitting_way_out(bundle, tmp_path, call):
    pytest.importorskip("huggingface_hub")
    seal(bundle)
    said = hub_error(call, "me/x", "http://127.0.0.1:9", tmp_path, bundle)
    assert "the hub cannot be reached" in said
    assert "Is there a network?" in said
    assert "log in" not in said
    said = hub_error(call, "me/no such name", "http://127.0.0.1:9", tmp_path, bundle)
    assert "no name for a repository" in said
    assert "hf://owner/name" in said


@pytest.mark.parametrize("call", HUB_CALLS)
@pytest.mark.parametrize(("status", "words"), [(403, "the hub refuses: "), (404, "the hub knows no such repository")])
def test_what_the_hub_refuses_is_told_with_a_fitting_way_out(bundle, tmp_path, call, status, words):
    pytest.importorskip("huggingface_hub")
    seal(bundle)

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        said = hub_error(call, "me/x", f"http://127.0.0.1:{server.server_port}", tmp_path, bundle)
        server.shutdown()
    assert words in said
    assert "network" not in said


def test_a_hub_address_needs_an_owner(bundle, tmp_path):
    with pytest.raises(InputError, match="not a hub repository"):
        pull("hf://student", tmp_path / "x")
    assert issubclass(InputError, MiraError)


def test_the_hash_of_the_weights_does_not_depend_on_what_lies_beside_them(bundle):
    seal(bundle)
    before = weights_hash(bundle)
    (bundle / "held_out.parquet").write_bytes(b"x")
    seal(bundle)
    assert weights_hash(bundle) == before
    (bundle / "weights.safetensors").write_bytes(b"other")
    seal(bundle)
    assert weights_hash(bundle) != before
