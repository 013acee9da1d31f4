"""The bytes of models over HTTP, on both databases."""

import base64
import hashlib
import io
import json
import random
import threading
import zipfile

import pytest

from havre.domain.errors import Unavailable

API = "/20190101"
ON_SQLITE = pytest.mark.parametrize("database_kind", ["sqlite"])
"""For what is refused before the database is asked."""


def archive(**files):
    """The same bytes for the same files, whenever it is called."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        for name, text in (files or {"score": "def predict(): ..."}).items():
            file.writestr(zipfile.ZipInfo(f"{name}.py"), text)
    return target.getvalue()


def model(api, **fields):
    body = {"compartmentId": "c", "projectId": api.project_id, **fields}
    return api.client.post(f"{API}/models", json=body).json()["id"]


def upload(api, model_id, content, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.client.post(f"{API}/models/{model_id}/artifact", content=content, headers=headers)


def refusal(answer):
    return answer.status_code, answer.json()["code"]


def stored(api):
    """Every file below the artifact folder, unfinished uploads too."""
    return sorted(path.name for path in api.services.home.artifacts.rglob("*") if path.is_file())


def digest(content):
    return hashlib.sha256(content).hexdigest()


def test_a_large_one_comes_down_the_same_whole_or_in_part(api):
    content, made = archive(weights=random.Random(1).randbytes(3_500_000)), model(api)
    upload(api, made, content)
    url = f"{API}/models/{made}/artifact/content"
    assert api.client.get(url).content == content
    part = api.client.get(url, headers={"range": "bytes=1000000-3000000"})
    assert part.content == content[1_000_000:3_000_001]


def test_what_goes_up_comes_down_with_its_headers(api):
    content, made = archive(), model(api)
    answer = upload(
        api,
        made,
        content,
        content_type="application/json",
        content_disposition='attachment; filename="my model.zip"',
    )
    assert (answer.status_code, answer.text) == (204, "")
    assert answer.headers["etag"]
    path = f"{API}/models/{made}/artifact/content"
    got = api.client.get(path)
    assert got.content == content
    head = api.client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for headers in (got.headers, head.headers):
        assert headers["content-length"] == str(len(content))
        assert headers["content-disposition"] == "attachment; filename=my_model.zip"
        assert headers["content-type"] == "application/octet-stream"
        assert headers["last-modified"] == "Wed, 04 Mar 2026 05:06:07 GMT"
        assert base64.b64decode(headers["content-md5"]) == hashlib.md5(content).digest()
        assert headers["etag"] == digest(content)


def test_a_range_comes_alone(api):
    content, made = archive(), model(api)
    upload(api, made, content)
    path = f"{API}/models/{made}/artifact/content"
    part = api.client.get(path, headers={"range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, content[2:6])
    assert part.headers["content-range"] == f"bytes 2-5/{len(content)}"
    assert part.headers["content-length"] == "4"
    beyond = api.client.get(path, headers={"range": f"bytes={len(content)}-"})
    assert refusal(beyond) == (416, "InvalidParameter")
    assert beyond.headers["content-range"] == f"bytes */{len(content)}"


@ON_SQLITE
@pytest.mark.parametrize(
    "name",
    ['"../../etc/passwd"', "a\\b\\passwd", '"pass;wd"', "\xfc\xfc", '""', "." * 9, "x" * 4000],
)
def test_a_file_name_is_made_harmless(api, name):
    made = model(api)
    disposition = f"attachment; filename={name}".encode("latin-1")
    upload(api, made, archive(), content_disposition=disposition)
    told = api.client.head(f"{API}/models/{made}/artifact/content").headers["content-disposition"]
    told = told.removeprefix("attachment; filename=")
    assert told.endswith(".zip")
    assert set(told) <= set("abcdefghijklmnopqrstuvwxyz0123456789._")
    assert not told.startswith(".")
    assert len(told) <= 255


def test_an_artifact_never_changes(api):
    made = model(api)
    assert upload(api, made, archive()).status_code == 204
    other = archive(other="x")
    assert refusal(upload(api, made, other)) == (409, "Conflict")
    assert refusal(upload(api, made, archive())) == (409, "Conflict")
    assert stored(api) == [digest(archive())]


def test_a_repeated_upload_with_the_same_token_is_answered_again(api):
    made = model(api)
    assert upload(api, made, archive(), opc_retry_token="t").status_code == 204
    assert upload(api, made, archive(), opc_retry_token="t").status_code == 204
    answer = upload(api, made, archive(other="x"), opc_retry_token="t")
    assert refusal(answer) == (409, "InvalidatedRetryToken")
    assert stored(api) == [digest(archive())]


def test_concurrent_uploads_to_one_model_keep_one(api):
    made, answers = model(api), []
    contents = [archive(score=str(number)) for number in range(4)]
    threads = [
        threading.Thread(target=lambda content=content: answers.append(upload(api, made, content)))
        for content in contents
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [204, 409, 409, 409]
    kept = api.client.get(f"{API}/models/{made}/artifact/content").content
    assert stored(api) == [digest(kept)]


@ON_SQLITE
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (b"not a zip", "zip"),
        (archive()[:-10], "zip"),
        (b'{"half": ', "JSON"),
        (b"[" * 100_000, "JSON"),
        (b"[" + b"1," * 3_000_000 + b"1]", "JSON"),
    ],
    ids=["empty", "text", "cut", "half json", "deep json", "long json"],
)
def test_what_is_not_an_archive_is_refused_and_leaves_nothing(api, content, told):
    made = model(api)
    answer = upload(api, made, content)
    assert refusal(answer) == (400, "InvalidParameter")
    assert told in answer.json()["message"]
    assert stored(api) == []
    assert api.client.get(f"{API}/models/{made}/artifact/content").status_code == 404


@ON_SQLITE
def test_an_archive_that_leads_out_of_itself_is_refused(api):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        file.writestr("../evil", "x")
    assert refusal(upload(api, model(api), target.getvalue())) == (400, "InvalidParameter")
    assert stored(api) == []


@ON_SQLITE
def test_a_json_description_is_an_artifact_too(api):
    made, content = model(api), json.dumps({"models": []}).encode()
    assert upload(api, made, content).status_code == 204
    headers = api.client.head(f"{API}/models/{made}/artifact/content").headers
    assert headers["content-disposition"].endswith(".json")


@ON_SQLITE
def test_a_length_that_is_not_kept_is_refused(api):
    answer = upload(api, model(api), iter([archive()]), content_length="7")
    assert refusal(answer) == (400, "InvalidParameter")
    assert "content-length" in answer.json()["message"]
    assert stored(api) == []


@ON_SQLITE
def test_a_hash_that_is_stated_is_kept_to(api):
    made, content = model(api), archive()
    stated = base64.b64encode(hashlib.sha256(content).digest()).decode()
    answer = upload(api, made, archive(score="other"), x_content_sha256=stated)
    assert refusal(answer) == (400, "InvalidParameter")
    assert "x-content-sha256" in answer.json()["message"]
    assert stored(api) == []
    assert upload(api, made, content, x_content_sha256=stated).status_code == 204


@pytest.mark.parametrize("state", ["absent", "deleted"])
def test_there_is_nothing_to_upload_to(api, state):
    made = model(api)
    if state == "deleted":
        api.client.delete(f"{API}/models/{made}")
        assert refusal(upload(api, made, archive())) == (409, "Conflict")
    else:
        made = made[:-3] + "aaa"
        assert refusal(upload(api, made, archive())) == (404, "NotAuthorizedOrNotFound")
    assert stored(api) == []


def test_a_database_that_fails_at_the_end_leaves_no_bytes(api, monkeypatch):
    made, failures = model(api), [Unavailable("gone")]
    write = api.database.write

    def write_or_fail():
        if failures:
            raise failures.pop()
        return write()

    monkeypatch.setattr(api.database, "write", write_or_fail)
    assert refusal(upload(api, made, archive())) == (503, "ServiceUnavailable")
    assert stored(api) == []
    assert upload(api, made, archive()).status_code == 204


def test_bytes_go_with_the_last_model_that_has_them(api):
    first, second = model(api), model(api)
    for made in (first, second):
        upload(api, made, archive())
    assert stored(api) == [digest(archive())]
    api.client.delete(f"{API}/models/{first}")
    assert stored(api) == [digest(archive())]
    assert api.client.get(f"{API}/models/{second}/artifact/content").content == archive()
    assert api.client.get(f"{API}/models/{first}/artifact/content").status_code == 404
    api.client.delete(f"{API}/models/{second}")
    assert stored(api) == []


def test_bytes_that_could_not_be_removed_are_removed_by_the_next_deletion(api, monkeypatch):
    first, second = model(api), model(api)
    upload(api, first, archive())

    def fail(*_):
        raise OSError("read-only")

    with monkeypatch.context() as patch:
        patch.setattr("havre.catalog.artifacts.ArtifactStore.delete", fail)
        assert api.client.delete(f"{API}/models/{first}").status_code == 204
    assert stored(api) == [digest(archive())]
    assert api.client.delete(f"{API}/models/{second}").status_code == 204
    assert stored(api) == []


def test_deleting_and_uploading_the_same_bytes_at_once_loses_none(api):
    """Whatever the order: an upload that was accepted can be downloaded."""
    content = archive()
    old = [model(api) for _ in range(4)]
    new = [model(api) for _ in range(4)]
    for made in old:
        upload(api, made, content)
    accepted = []

    def replace(index):
        api.client.delete(f"{API}/models/{old[index]}")

    def put(index):
        if upload(api, new[index], content).status_code == 204:
            accepted.append(new[index])

    threads = [
        threading.Thread(target=act, args=(index,)) for index in range(4) for act in (replace, put)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for made in accepted:
        assert api.client.get(f"{API}/models/{made}/artifact/content").content == content


# Artifacts of metadata


@pytest.mark.parametrize("family", ["customMetadata", "definedMetadata"])
@pytest.mark.parametrize("key", ["Readme", "with space/and slash", "artifact", "ü"])
def test_an_artifact_of_metadata_lives_beside_its_entry(api, family, key):
    field = f"{family}List"
    made = model(api, **{field: [{"key": key, "value": "v"}]})
    model_path = f"{API}/models/{made}"
    path = f"{model_path}/{family}/{key}/artifact"
    assert api.client.get(f"{path}/content").status_code == 404
    assert refusal(api.client.put(path, content=b"x")) == (404, "NotAuthorizedOrNotFound")
    etag = api.client.get(model_path).headers["etag"]
    assert api.client.post(path, content=b"# one").status_code == 204
    assert refusal(api.client.post(path, content=b"# one")) == (409, "Conflict")
    entry = api.client.get(model_path).json()[field][0]
    assert (entry["key"], entry["value"], entry["hasArtifact"]) == (key, "v", True)
    assert api.client.get(model_path).headers["etag"] != etag

    assert api.client.put(path, content=b"# two").status_code == 204
    got = api.client.get(f"{path}/content", headers={"range": "bytes=-3"})
    assert (got.status_code, got.content) == (206, b"two")
    assert api.client.head(f"{path}/content").headers["content-length"] == "5"
    assert stored(api) == [digest(b"# two")]

    assert api.client.delete(path).status_code == 204
    assert refusal(api.client.delete(path)) == (404, "NotAuthorizedOrNotFound")
    assert api.client.get(model_path).json()[field][0]["hasArtifact"] is False
    assert stored(api) == []


def test_an_artifact_of_metadata_may_come_before_its_entry(api):
    made = model(api)
    path = f"{API}/models/{made}/definedMetadata/Readme/artifact"
    assert api.client.post(path, content=b"# one").status_code == 204
    (entry,) = api.client.get(f"{API}/models/{made}").json()["definedMetadataList"]
    assert (entry["key"], entry["hasArtifact"]) == ("Readme", True)


def test_replacing_by_the_same_bytes_keeps_them(api):
    path = f"{API}/models/{model(api)}/customMetadata/k/artifact"
    api.client.post(path, content=b"same")
    assert api.client.put(path, content=b"same").status_code == 204
    assert api.client.get(f"{path}/content").content == b"same"


@pytest.mark.parametrize("key", ["k" * 256, "%00"])
def test_a_key_has_a_limit(api, key):
    path = f"{API}/models/{model(api)}/customMetadata/{key}/artifact"
    assert refusal(api.client.post(path, content=b"x")) == (400, "InvalidParameter")
