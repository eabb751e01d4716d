"""Weights come from a real server or from the cache, whole and checked, or with words on what to do."""

import hashlib
import http.server
import io
import re
import threading

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
from families import few
from torchvision.models import SqueezeNet1_1_Weights, get_model, get_model_weights

from tlutils import models, runtime
from tlutils.errors import LearnerError
from tlutils.models import fetch

NAME = "squeezenet1_1"
TIMM = "test_resnet"  # timm's own tiny architecture for tests


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files` {path: bytes}; paths in `server.broken` break off in the middle."""

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        body = self.answer()
        if body is not None:
            self.wfile.write(body[: len(body) // 2] if self.path in self.server.broken else body)

    def answer(self):
        self.server.asked.append(self.path)
        body = self.server.files.get(self.path)
        self.send_response(404 if body is None else 200)
        if body is not None:
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", "c" * 40)
        elif "/resolve/" in self.path:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        return body

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.files, running.broken, running.asked = {}, set(), []
        running.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def online(empty_cache, monkeypatch):
    monkeypatch.delenv("TLUTILS_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def checkpoint(model):
    """A torch checkpoint of a model, and the first digits of its SHA-256."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.getvalue(), hashlib.sha256(buffer.getvalue()).hexdigest()[:8]


@pytest.fixture
def published(server, monkeypatch):
    """A SqueezeNet whose weights torchvision believes to be on our server; the path there comes along."""
    model = models.load(NAME, pretrained=False, seed=9)
    content, digits = checkpoint(model)
    path = f"/{NAME}-{digits}.pth"
    server.files[path] = content
    monkeypatch.setattr(SqueezeNet1_1_Weights.DEFAULT.value, "url", server.url + path)
    return model, path


@pytest.fixture
def published_timm(server, monkeypatch):
    """A timm model whose weights timm believes to be at a plain address on our server."""
    model = timm.create_model(TIMM).eval()
    content, digits = checkpoint(model)
    path = f"/{TIMM}-{digits}.pth"
    server.files[path] = content
    cfg = timm.get_pretrained_cfg(TIMM)
    cfg.hf_hub_id, cfg.url = None, server.url + path
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: cfg)
    return model, path


@pytest.fixture
def on_the_hub(server, monkeypatch):
    """A timm model whose weights are in a repository of a hub that our server plays."""
    model = timm.create_model(TIMM).eval()
    repo = timm.get_pretrained_cfg(TIMM).hf_hub_id
    path = f"/{repo}/resolve/main/model.safetensors"
    server.files[path] = safetensors.torch.save(model.state_dict())
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    return model, path


SOURCES = {"published": NAME, "published_timm": f"timm/{TIMM}", "on_the_hub": f"timm/{TIMM}"}


@pytest.fixture(params=SOURCES)
def source(request):
    """Each of the three ways to weights: (name to load, the model it must give, its path on the server)."""
    return SOURCES[request.param], *request.getfixturevalue(request.param)


def same(model, other):
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[key]) for key, tensor in model.state_dict().items())


def cached_files():
    return [
        p for p in runtime.cache_dir().rglob("*") if p.is_file() and not p.name.endswith((".lock", ".json"))
    ]


def test_a_good_file_is_fetched_once_and_used_from_the_cache_without_a_network_call(source, server):
    name, expected, path = source
    model = models.load(name)
    assert same(model, expected)
    assert models.info(model).pretrained
    assert path in server.asked
    server.asked.clear()
    assert same(models.load(name), expected)
    assert not server.asked


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def emptied(path):
    path.write_bytes(b"")


def a_folder(path):
    path.unlink()
    (path / "mine").mkdir(parents=True)


def a_dangling_link(path):
    path.unlink()
    path.symlink_to(path.with_name("gone"))


def its_lock_a_folder(path):
    for lock in runtime.cache_dir("weights").glob("*.lock"):
        lock.unlink()
        lock.mkdir()


def its_lock_a_dangling_link(path):
    for lock in runtime.cache_dir("weights").glob("*.lock"):
        lock.unlink()
        lock.symlink_to(path.parent / "no such folder" / "lock")


def its_note_a_folder(path):
    for note in runtime.cache_dir("weights").glob("hub/*/refs/main"):
        note.unlink()
        note.mkdir()


ODD = (
    cut,
    emptied,
    a_folder,
    a_dangling_link,
    its_lock_a_folder,
    its_lock_a_dangling_link,
    its_note_a_folder,
)


@pytest.mark.parametrize("odd", few(ODD, cut, a_dangling_link, its_lock_a_folder, its_note_a_folder))
@pytest.mark.parametrize("source", ["published", "on_the_hub"], indirect=True)
def test_an_odd_file_in_the_cache_is_made_anew_or_named_in_words(source, odd):
    name, expected, _ = source
    models.load(name)
    (path,) = (p for p in cached_files() if p.stat().st_size > 10_000 and not p.is_symlink())
    odd(path)
    words = ""
    try:
        model = models.load(name)
    except LearnerError as error:
        words = str(error)
    assert str(runtime.cache_dir()) in words if words else same(model, expected)
    models.list_offline()


def test_what_was_fetched_works_offline_and_is_listed(source, monkeypatch):
    name, expected, _ = source
    models.load(name)
    monkeypatch.setenv("TLUTILS_OFFLINE", "1")
    assert same(models.load(name), expected)
    assert any(name.removeprefix("timm/") in listed for listed in models.list_offline())


def test_a_set_of_weights_that_is_not_the_default_is_listed_with_its_tag(empty_cache):
    url = get_model_weights("mobilenet_v2").IMAGENET1K_V1.url
    fetch.url_path(url).write_bytes(b"")
    assert [name for name in models.list_offline() if "mobilenet" in name] == ["mobilenet_v2.IMAGENET1K_V1"]


def test_downloads_land_in_the_cache_and_change_no_setting(source, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    settings = huggingface_hub.constants.HF_HUB_DISABLE_XET, torch.hub.get_dir()
    models.load(source[0])
    assert (huggingface_hub.constants.HF_HUB_DISABLE_XET, torch.hub.get_dir()) == settings
    assert cached_files()
    assert not list((tmp_path / "home").rglob("*"))


def test_a_new_head_and_one_channel_go_with_fetched_weights(source):
    name, expected, _ = source
    model = models.load(name, num_classes=4, in_chans=1)
    stem, head = fetched_parts(model)
    assert (stem.shape[1], head) == (1, 4)
    torch.testing.assert_close(stem[:, 0], fetched_parts(expected)[0].sum(1))


def fetched_parts(model):
    return next(p for p in model.parameters() if p.ndim == 4), models.info(model).num_classes


@pytest.mark.parametrize("kind", ["published", "published_timm"])
def test_a_wrong_hash_is_refused_and_nothing_is_kept(kind, request, server):
    _, path = request.getfixturevalue(kind)
    server.files[path] += b"x"
    with pytest.raises(LearnerError, match="wrong SHA-256"):
        models.load(SOURCES[kind])
    assert not cached_files()


def test_a_connection_that_breaks_in_mid_file_says_so_and_leaves_nothing(source, server, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the tries of the hub
    name, expected, path = source
    server.broken.add(path)
    with pytest.raises(LearnerError, match=r"the connection broke|did not send it"):
        models.load(name)
    assert not [p for p in cached_files() if p.suffix in (".pth", ".safetensors")]
    server.broken.clear()
    assert same(models.load(name), expected), "the next try must start well"


def test_a_file_that_the_server_has_not_is_reported_with_its_answer(source, server):
    server.files.clear()
    with pytest.raises(LearnerError, match=r"answered 404|has none of"):
        models.load(source[0])


def test_without_a_server_one_error_says_what_why_where_and_what_works(source, server, monkeypatch):
    server.shutdown()
    server.server_close()
    name, _, path = source
    with pytest.raises(LearnerError) as caught:
        models.load(name)
    text = str(caught.value)
    for words in (
        name.removeprefix("timm/"),
        "refused",
        server.url + path,
        str(runtime.cache_dir()),
        "save it as",
        "tf_efficientnet_lite0",
        "pretrained=False",
        "TLUTILS_OFFLINE",
    ):
        assert words in text


@pytest.mark.parametrize("switch", ["TLUTILS_OFFLINE", "HF_HUB_OFFLINE"])
def test_the_offline_switch_keeps_every_call_from_the_network(source, server, monkeypatch, switch):
    monkeypatch.setenv(switch, "1")
    server.asked.clear()
    with pytest.raises(LearnerError, match="stay offline"):
        models.load(source[0])
    assert not server.asked


def test_a_file_brought_by_hand_to_the_path_in_the_error_is_used(source, server, monkeypatch):
    name, expected, path = source
    monkeypatch.setenv("TLUTILS_OFFLINE", "1")
    with pytest.raises(LearnerError, match="save it as") as caught:
        models.load(name)
    target = str(caught.value).partition("save it as ")[2].partition("\n")[0]
    with open(target, "wb") as file:  # noqa: PTH123 - the path is text out of a message
        file.write(server.files[path])
    assert same(models.load(name), expected)


def test_a_cached_file_that_is_cut_off_is_named_and_no_random_model_comes(source):
    name = source[0]
    models.load(name)
    largest = max((p.resolve() for p in cached_files()), key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:1000])
    with pytest.raises(LearnerError, match=r"damaged.*Delete it") as caught:
        models.load(name)
    assert str(runtime.cache_dir()) in str(caught.value)


def test_a_hand_brought_file_without_a_hash_that_is_cut_off_is_named(on_the_hub, server):
    _, path = on_the_hub
    target = fetch.hub_path(timm.get_pretrained_cfg(TIMM).hf_hub_id, "model.safetensors")
    target.write_bytes(server.files[path][:1000])
    with pytest.raises(LearnerError, match=r"model\.safetensors .*cut off"):
        models.load(f"timm/{TIMM}")


def test_a_hub_repository_with_torch_weights_alone_is_read_too(on_the_hub, server):
    model, path = on_the_hub
    del server.files[path]
    server.files[path.replace("model.safetensors", "pytorch_model.bin")] = checkpoint(model)[0]
    assert same(models.load(f"timm/{TIMM}"), model)


def test_a_checkpoint_that_would_run_code_is_not_read(published, server, monkeypatch):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the file ran code",))

    buffer = io.BytesIO()
    torch.save({"weights": Trap()}, buffer)
    digits = hashlib.sha256(buffer.getvalue()).hexdigest()[:8]
    server.files[f"/{NAME}-{digits}.pth"] = buffer.getvalue()
    monkeypatch.setattr(SqueezeNet1_1_Weights.DEFAULT.value, "url", f"{server.url}/{NAME}-{digits}.pth")
    with pytest.raises(LearnerError, match="would run code"):
        models.load(NAME)


def test_an_architecture_without_weights_is_not_silently_random():
    name = next(name for name in timm.list_models() if not timm.models.is_model_pretrained(name))
    with pytest.raises(LearnerError, match="no weights"):
        models.load(name)


def test_two_that_want_one_file_at_once_fetch_it_once(published, server):
    results = []
    threads = [threading.Thread(target=lambda: results.append(models.load(NAME))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(model, published[0]) for model in results)
    assert server.asked.count(published[1]) == 1


def publish(name, state, server, monkeypatch):
    """Make torchvision believe that `state` is on our server, as the weights of a model."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path = f"/{name}-{hashlib.sha256(buffer.getvalue()).hexdigest()[:8]}.pth"
    server.files[path] = buffer.getvalue()
    monkeypatch.setattr(get_model_weights(name).DEFAULT.value, "url", server.url + path)


def test_densenets_older_tensor_names_are_understood(server, monkeypatch):
    expected = get_model("densenet121").eval()
    pattern = re.compile(r"(denselayer\d+\.(?:norm|conv))([12])")
    old = {pattern.sub(r"\1.\2", key): value for key, value in expected.state_dict().items()}
    assert set(old) != set(expected.state_dict())
    publish("densenet121", old, server, monkeypatch)
    assert same(models.load("densenet121"), expected)


def test_auxiliary_heads_in_a_file_are_left_out(server, monkeypatch):
    theirs = get_model("googlenet", init_weights=False).eval()
    assert any(key.startswith("aux1.") for key in theirs.state_dict())
    publish("googlenet", theirs.state_dict(), server, monkeypatch)
    model = models.load("googlenet")
    assert not any(key.startswith("aux") for key in model.state_dict())
    assert same(model, theirs)


@pytest.mark.full
def test_a_position_embedding_is_resized_with_the_weights_kept(server, monkeypatch):
    expected = get_model("vit_b_32").eval()
    publish("vit_b_32", expected.state_dict(), server, monkeypatch)
    model = models.load("vit_b_32", input_size=96)
    table, theirs = model.encoder.pos_embedding, expected.encoder.pos_embedding
    assert table.shape == (1, 1 + 3 * 3, 768)
    assert torch.equal(table[:, 0], theirs[:, 0])
    grid = theirs[0, 1:].T.reshape(1, 768, 7, 7)
    resized = torch.nn.functional.interpolate(grid, size=3, mode="bicubic", align_corners=True)
    torch.testing.assert_close(table[0, 1:].T.reshape(768, 3, 3), resized[0])
    assert torch.equal(model.conv_proj.weight, expected.conv_proj.weight)
