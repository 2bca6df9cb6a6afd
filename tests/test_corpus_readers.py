"""Text files to documents and sentences; what is wrong with them, through run_corpus.py."""

import bz2
import functools
import gzip
import http.server
import json
import os
import shutil
import threading

import pytest
from commands import outcome, run
from corpus_texts import contents, read

import run_corpus
from data import opening, readers, tables
from data.corpus import documents, downloads, sentences
from utils.errors import DataError

# ---- Readers

DOCUMENTS = ['One line.\nAnother line, "quoted".', "Second document.", "Third, with caf\u00e9 \u4e16."]


def wiki(texts):
    return "".join(f'<doc id="{i}" url="x" title="t">\n{t}\n\n</doc>\n' for i, t in enumerate(texts))


def jsonl(texts):
    return "".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in enumerate(texts))


def csv(texts):
    quoted = [t.replace('"', '""') for t in texts]
    return "id,text\n" + "".join(f'{i},"{t}"\n' for i, t in enumerate(quoted))


FILES = {
    "wiki_00": wiki(DOCUMENTS).encode(),
    "a.txt": "\n\n\n".join(DOCUMENTS).encode(),
    "a.jsonl": jsonl(DOCUMENTS).encode(),
    "rows": jsonl(DOCUMENTS).encode(),
    "a.csv": csv(DOCUMENTS).encode(),
    "a.json.gz": gzip.compress(jsonl(DOCUMENTS).encode()),
    "wiki_00.bz2": bz2.compress(wiki(DOCUMENTS).encode()),
    "windows.txt": ("\ufeff" + "\n\n".join(DOCUMENTS)).replace("\n", "\r\n").encode(),
}


@pytest.mark.parametrize("name", FILES)
def test_the_same_documents_from_every_format(name, tmp_path):
    (tmp_path / name).write_bytes(FILES[name])
    assert read(tmp_path / name) == DOCUMENTS


TSV = ['"open', "it's 5\" wide", "", '"closed"', 'a ""b"", c,d', 'end"']


@pytest.mark.parametrize("name", ["a.tsv", "A.TSV", "a.tsv.gz"])
def test_a_tsv_is_cut_at_tabs_only(name, tmp_path):
    """As data.tables cuts those of tasks: quotes are text, each line is a row, whatever is open in it."""
    lines = ["text\tid", *(f"{text}\t{i}" for i, text in enumerate(TSV))]
    content = ("\r\n".join(lines) + "\n\n").encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert read(tmp_path / name) == TSV
    with opening.open_bytes(tmp_path / name) as file:
        assert [cells[0] for _, cells in tables.open_table(tmp_path / name, file).rows] == TSV


def test_rows_of_a_tsv(tmp_path):
    """A blank line is none; one of another width is refused; tabs are no columns of a CSV, whatever else its
    name says."""
    (tmp_path / "a.tsv").write_text("text\tid\n\na\t1\n\nb\t2\n")
    assert read(tmp_path / "a.tsv") == ["a", "b"]
    (tmp_path / "a.tsv").write_text('text\tid\n"a\t1\nb\n')
    with pytest.raises(DataError, match=r"a\.tsv:3: found 1 tab-separated columns; expected 2 .*; a tab"):
        read(tmp_path / "a.tsv")
    (tmp_path / "of.tsv.csv").write_text("text,id\na\tb,1\n")
    assert read(tmp_path / "of.tsv.csv") == ["a\tb"]


def test_parquet_and_columns(tmp_path):
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"title": ["A", "B", "C"], "text": ["One.", None, "Three."], "n": [1, 2, 3]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ["One.", "", "Three."]
    assert read(tmp_path / "a.parquet", columns="title, text") == ["A\nOne.", "B", "C\nThree."]
    with pytest.raises(DataError, match=r"a.parquet: row 1: found 1 in the column n; expected text"):
        read(tmp_path / "a.parquet", columns="n")


TABLES = {  # name: content, in which a corpus and a task find the same texts
    "semicolons.csv": 'text;label\n"a; ""b""\r\nc";x\r\nd, e;y\r\n',
    "tabs.csv": "label\ttext\nx\ta, b\ny\tc\n",
    "blanks.csv": "label, text ,more\nx,a,1\ny, b,2\n",
    "mark.csv": '\ufefftext,label\n"a, b",x\n',
    "list.json": json.dumps([{"text": "a\nb", "label": 1}, {"text": "c", "more": [1]}], indent=1),
    "lines.json": '\n{"text": "a", "label": 1}\n\n{"label": 2, "text": "\\ud83d\\ude00"}\n\n',
    "a.tsv": '\ufefftext\tlabel\r\n"a\tx\r\nb"\ty\r\n',
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("packed", ["", ".gz", ".bz2"])
def test_a_corpus_reads_tables_as_a_task_does(name, packed, tmp_path):
    """Separator, header, quotes, marks, lists: the text of a row is the cell, but for blanks around its
    lines."""
    path = tmp_path / (name + packed)
    pack = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}[packed]
    path.write_bytes(pack(TABLES[name].encode()))
    with opening.open_bytes(path) as file:
        found = tables.open_table(path, file)
        texts = [cells[found.names.index("text")] for _, cells in found.rows]
    assert read(path) == [text.replace("\r", "").strip() for text in texts] and len(texts) in (1, 2)


def test_where_a_row_of_several_lines_is(tmp_path):
    """The line that it begins in."""
    (tmp_path / "a.csv").write_text('text,n\na,1\n\n"b\nc",2,3\n')
    with pytest.raises(DataError, match=r"a\.csv:4: found 3 columns; expected 2"):
        read(tmp_path / "a.csv")


def test_a_parquet_file_is_read_by_columns_and_packed(tmp_path):
    """Columns that are not asked for are not read: here one of them is damaged."""
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"text": ["One.", "Two."], "picture": ["x" * 999, "y"]})
    parquet.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False)
    content = (tmp_path / "a.parquet").read_bytes()
    page = parquet.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0).column(1).data_page_offset
    damaged = content[:page] + b"\xff" * 16 + content[page + 16 :]
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(damaged))
    assert read(tmp_path / "a.parquet.gz") == ["One.", "Two."]
    with pytest.raises(DataError, match=r"a\.parquet\.gz: no Parquet file that can be read"):
        read(tmp_path / "a.parquet.gz", columns="picture")


def test_what_a_document_of_plain_text_is(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n\n \n\nthree\n")
    for sample_by, expected in (
        ("line", ["one", "two", "three"]),
        ("paragraph", ["one\ntwo", "three"]),
        ("document", ["one\ntwo\nthree"]),
    ):
        assert read(tmp_path / "a.txt", sample_by=sample_by) == expected


def test_folders_globs_config_and_order(tmp_path):
    """By name within a folder or glob, in the order given otherwise; a file named twice is read once; hidden
    files are none."""
    folder = tmp_path / "in"
    (folder / "b").mkdir(parents=True)
    for name in ("c.txt", "b/x.txt", "a.txt", ".hidden"):
        (folder / name).write_text(f"{name}\n")
    assert read(folder) == ["a.txt", "b/x.txt", "c.txt"]
    assert read(folder / "c.txt", folder / "*.txt") == ["c.txt", "a.txt"]
    assert read(folder / "**" / "*.txt") == ["a.txt", "b/x.txt", "c.txt"]
    (tmp_path / "config.json").write_text(json.dumps({"urls": ["in/c.txt", "in/b"], "format": "text"}))
    assert read(tmp_path / "config.json") == ["c.txt", "b/x.txt"]
    (tmp_path / "rows.json").write_text(json.dumps({"text": "a single row"}))
    assert read(tmp_path / "rows.json") == ["a single row"]


def test_hashes_tell_how_files_are_read(tmp_path):
    """What a JSON config says of them, and their order, which its own name and path do not tell."""
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text('{"text": "one", "title": "two"}\n')
    config, found = tmp_path / "config.json", []
    for said in (
        {"urls": ["a.jsonl", "b.jsonl"]},
        {"urls": ["b.jsonl", "a.jsonl"]},
        {"urls": ["*.jsonl"], "columns": "title"},
        {"urls": ["*.jsonl"], "format": "text"},
        {"urls": ["*.jsonl"], "format": "json", "columns": "text"},  # what the first one comes to
    ):
        config.write_text(json.dumps(said))
        found.append(documents.hashes(documents.find_sources([str(config)])))
    by_line = documents.find_sources([str(config)], format="text", sample_by="line")
    assert len({str(sorted(hashes.items())) for hashes in [*found, documents.hashes(by_line)]}) == 5
    assert found[0] == found[-1]


NAMES = {
    "wiki/AA": "AA",
    "text/a.txt more/b.txt": "a",
    "g1/*.txt": "g1",
    "g.1/**/*.txt": "g",
    "g1/[ab]/c.txt.gz": "c.txt",
    "https://example.org/more.txt?raw=1": "more",
    "tests --input_regex wiki_*": "tests",
}


@pytest.mark.parametrize("words", NAMES)
def test_the_folder_is_named_after_the_first_input(words):
    args = run_corpus.parse(["--sentences_only", "--input", *words.split()])
    assert args.output_dir == f"outputs/corpus/{NAMES[words]}"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The URL of a folder, and the folder; downloads go to another one."""
    import datasets

    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "downloads")
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


def test_urls(server):
    url, folder = server
    for name in ("a.json.gz", "wiki_00"):
        (folder / name).write_bytes(FILES[name])
    sources = documents.find_sources([f"{url}/a.json.gz", f"{url}/wiki_00"])
    assert list(documents.read_documents(sources)) == DOCUMENTS * 2
    hashes = documents.hashes(sources, download=False)
    assert list(hashes.values())[:2] == [f"{url}/a.json.gz", f"{url}/wiki_00"] and len(hashes) == 3
    (folder / "a.json.gz").unlink()
    assert len(list(documents.read_documents(sources))) == 6  # from where it was kept
    with pytest.raises(DataError, match=f"{url}/none.txt: cannot be downloaded .*(404|Not Found)"):
        read(f"{url}/none.txt")


def test_a_file_that_has_changed_behind_its_url(server, caplog, monkeypatch):
    """The kept copy is used, which is said with its date, and what the server has now; fetched anew on
    demand."""
    monkeypatch.setattr(documents.logger, "propagate", True)
    caplog.set_level("INFO", logger="compression")
    url, folder = f"{server[0]}/a.txt", server[1]

    def texts(**options):
        downloads.local_file.cache_clear()
        caplog.clear()
        return list(documents.read_documents(documents.find_sources([url], **options)))

    (folder / "a.txt").write_text("old")
    os.utime(folder / "a.txt", (1_000_000_000, 1_000_000_000))
    assert texts() == ["old"] and "downloaded to" in caplog.text
    assert texts() == ["old"] and "the copy that was fetched on 20" in caplog.text
    assert "has changed since" not in caplog.text
    (folder / "a.txt").write_text("newer")
    assert texts() == ["old"] and "Last-Modified Sun, 09 Sep 2001 01:46:40 GMT, now" in caplog.text
    assert "Content-Length 3, now 5" in caplog.text and "--refetch" in caplog.text
    kept = downloads.local_file(url)
    origin = kept.with_name(f"{kept.name}.origin.json")
    for content in ("", "[]", '{"fetched": 5}'):
        shutil.copy(origin, origin.with_name("whole"))
        origin.write_text(content)
        with pytest.raises(DataError, match=r"origin\.json: damaged"):
            texts()
        origin.with_name("whole").rename(origin)
    assert (
        texts(refetch=True) == ["newer"] and texts() == ["newer"] and "has changed since" not in caplog.text
    )
    (folder / "a.txt").unlink()
    assert texts() == ["newer"] and "cannot be found out" in caplog.text
    origin.unlink()  # kept by an earlier version
    (folder / "a.txt").write_text("newest")
    assert texts() == ["newer"] and "Content-Length 5, now 6" in caplog.text
    (folder / "a.txt").unlink()
    with pytest.raises(DataError, match="cannot be downloaded"):
        texts(refetch=True)
    assert texts() == ["newer"]


def keep_downloads(folder):
    import datasets

    datasets.config.DOWNLOADED_DATASETS_PATH = folder


def test_a_dry_run_replaces_no_downloads(server, tmp_path):
    url, folder = server
    (folder / "a.txt").write_text("old")
    kept = downloads.fetch(f"{url}/a.txt")
    (folder / "a.txt").write_text("newer")
    words = f"--input {url}/a.txt --refetch --sentences_only --num_workers 1 --output_dir {tmp_path / 'run'}"
    for dry, content in ((["--dry_run"], "old"), ([], "newer")):
        hook = [(keep_downloads, (kept.parent,))]
        codes, printed = outcome("run_corpus.py", *words.split(), *dry, before=hook)
        assert codes == [0] and kept.read_text() == content, printed
        assert ("--refetch: a dry run replaces no copies" in printed) == bool(dry)
        assert "next: " not in printed  # no one command follows sentences alone


OTHERS = {  # what is no UTF-8 text: what the message says
    "the cat\n".encode("utf-16"): "UTF-16 text; convert it: iconv -f utf-16",
    "the cat\n".encode("utf-16-be"): "UTF-16",
    "the cat\n".encode("utf-16-le"): "UTF-16",
    "the cat\n".encode("utf-32"): "UTF-32",
    gzip.compress(b"the cat", mtime=0): r"ends with \.gz",
    b"\x28\xb5\x2f\xfd\x04": r"ends with \.zst",
    b"PK\3\4 the cat": r"ends with \.zip",
    b"\0\0\1": "bytes of value 0",
    b"the cat\rthe dog\r": r"one line, with carriage returns in it; .*tr '\\r' '\\n'",
    b"caf\xe9": "0xe9, which is not UTF-8; .*windows-1252",
}


@pytest.mark.parametrize("content", OTHERS, ids=[str(content[:5]) for content in OTHERS])
def test_what_is_no_utf_8_text(content, tmp_path):
    """In corpora and in tables, whatever their name says."""
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=f"a.txt:1: found .*{OTHERS[content]}"):
        read(tmp_path / "a.txt")
    with pytest.raises(DataError, match=f"a.txt:1: found .*{OTHERS[content]}"):
        readers.read_lines(tmp_path / "a.txt")


BAD = [  # name, content, what the message says; from the script
    ("empty.txt", b"", (":1:", "no text", "format read was text")),
    ("blank.txt", b"\n \n", (":1:", "no text")),
    (
        "short.txt",
        b"the cat\n",
        ("found 2 tokens in all documents", "expected at least 14", "--max_seq_length"),
    ),
    ("a.txt", b"the cat\ncaf\xe9\n", (":2:", "0xe9", "UTF-8")),
    ("a.jsonl", jsonl(["a", "b"]).encode() + b'{"text": "c\n', (":3:", "no valid JSON")),
    ("a.jsonl", b'["text"]\n', ("row 1:", "expected one object")),
    ("a.jsonl", b'{"text": 5}\n', (":1:", "found 5 in the column text")),
    ("a.jsonl", b'{"text": "\\ud83d"}\n', (":1:", "half of a surrogate pair")),
    ("a.jsonl", b'{"text": "a"}\n{"txt": "b"}\n', (":2:", "missing: text", "--columns")),
    ("a.csv", b"id,txt\n1,a\n", (":1:", "found the columns id, txt", "missing: text")),
    ("a.csv", b"id,text\n1,a\n2,b,c\n", (":3:", "3 columns", "expected 2")),
    ("a.csv", b'id,text\n1,"a"b\n', (":2:", "no valid CSV")),
    ("a.parquet", b"PAR1 and no more", ("a.parquet:", "Parquet")),
    ("a.txt.gz", gzip.compress(b"the cat\n" * 999)[:-20], ("cannot be read", "whole file")),
    ("wiki_00", b'<doc id="1">\nthe cat\n<doc id="2">\na mat\n</doc>\n', (":3:", "line 1", "no </doc>")),
    (
        "wiki_00",
        b'<doc id="1">\nthe cat\n</doc>\nthe mat\n',
        (":4:", "outside of a document", "wikiextractor"),
    ),
    ("wiki_00", b'<doc id="1">\nthe cat\n', (":2:", "end of the file", "expected </doc>", "line 1")),
    ("wiki_00", b'<doc id="1">\nthe cat\n</doc>\n</doc>\n', (":4:", "outside of a document")),
    (
        "config.json",
        b'{"urls": ["a.txt"], "column_names": "x"}',
        (":1:", "'column_names'", "urls, format, columns"),
    ),
    ("config.json", b'{"urls": []}', (":1:", "a list of paths")),
    ("config.json", b'{"urls": ["a.txt"], "format": "xml"}', (":1:", "'xml'", "wiki")),
    ("config.json", b'{"urls": ["none/*.txt"]}', ("none/*.txt", "matches no file")),
]


def refused(words, said, corpus_tokenizer_dir, built_corpus, tmp_path):
    """run_corpus.py must refuse, over a built_corpus corpus, and leave that alone."""
    shutil.copytree(built_corpus, tmp_path / "run")
    done = run(
        "run_corpus.py",
        *words,
        *f"--tokenizer_name_or_path {corpus_tokenizer_dir} --num_workers 1 --overwrite".split(),
        *f"--output_dir {tmp_path / 'run'}".split(),
        code=2,
    )
    *_, message = done.stderr.partition("error: ")
    assert "Traceback" not in done.stderr and done.stdout == "" and done.stderr.count("error: ") == 1
    for word in said:
        assert str(word) in message, message
    assert "expected" in message or said[0].startswith("--")
    assert contents(tmp_path / "run") == contents(built_corpus)


@pytest.mark.parametrize("name, content, said", BAD, ids=[f"{i} {case[0]}" for i, case in enumerate(BAD)])
def test_bad_files(name, content, said, corpus_tokenizer_dir, built_corpus, tmp_path):
    path = tmp_path / "data" / name
    path.parent.mkdir()
    path.write_bytes(content)
    said = (f"{path}{said[0]}", *said[1:]) if said[0].startswith(":") else said
    refused(["--input", path, "--max_seq_length", 16], said, corpus_tokenizer_dir, built_corpus, tmp_path)


def test_a_picture_among_texts(corpus_tokenizer_dir, built_corpus, tmp_path):
    """Of a folder with other files the texts can be named."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"\x89PNG\r\n")
    (folder / "b.txt").write_text("Some text.\n")
    said = [f"{folder / 'a.png'}:1: found the byte 0x89", f"name those that are: '{folder / '*.txt'}'"]
    refused(["--input", folder], said, corpus_tokenizer_dir, built_corpus, tmp_path)


@pytest.mark.parametrize(
    "words, said",
    [
        (["--input", "none.txt"], ["none.txt: no such file or folder"]),
        (["--input", "none/*.txt"], ["none/*.txt: matches no file"]),
        (["--input", "http://127.0.0.1:9/a.txt"], ["http://127.0.0.1:9/a.txt: cannot be downloaded"]),
        (
            [*"--input README.md --max_seq_length 1000".split()],
            ["--max_seq_length", "found 1000", "expected 4"],
        ),
        ([*"--input README.md --max_seq_length 3".split()], ["--max_seq_length", "found 3"]),
        ([*"--input README.md --columns x".split()], ["README.md", "format text", "--columns has no effect"]),
        (
            [
                *"--input README.md --blocks pairs --no_cross_documents --language en".split(),
                *"--sentences_only".split(),
            ],
            ["--no_cross_documents", "--sentences_only"],
        ),
        ([*"--input README.md --language en".split()], ["--language"]),
        (["--tokenizer_name_or_path", "none/x/y"], ["--input/--input_dir: required"]),
    ],
)
def test_bad_flags(words, said, corpus_tokenizer_dir, built_corpus, tmp_path):
    refused(words, said, corpus_tokenizer_dir, built_corpus, tmp_path)


# ---- Sentences

HARD = [
    ["The value is 3.5 percent.", "It rose."],
    ["He moved to the U.S. in 1926.", "There he worked."],
    ["J. R. R. Tolkien wrote it.", "Dr. Smith and Mrs. Jones agreed."],
    ["It happened on Jan. 5, 1990.", "Nobody knew."],
    ['He said "Stop!" and left.', "She stayed."],
    ["Is it so?", "Yes!", "Fine."],
    ["The company, Apple Inc., was founded in 1976.", "It grew."],
    ["See e.g. Miller et al. 2002.", "And cf. Jones (1999)."],
    ["The U.S. Congress met at 5 p.m. on Monday.", "It voted No. 5 down."],
    ["Version 2.0.1 of example.com was out...", "It failed."],
    ["The study (Fig. 3) shows it.", "See Sec. 2."],
]


@pytest.mark.parametrize("expected", HARD, ids=[case[0][:20] for case in HARD])
def test_sentences(expected):
    assert sentences.split_document(" ".join(expected)) == expected


def test_sentences_of_other_languages_and_lines():
    assert sentences.split_document("Am 3. Mai kam z.B. Dr. Meier. Er ging.", language="de") == [
        "Am 3. Mai kam z.B. Dr. Meier.",
        "Er ging.",
    ]
    assert sentences.split_document("\u6211\u6765\u4e86\u3002\u4f60\u597d\u5417\uff1f", language="zh") == [
        "\u6211\u6765\u4e86\u3002",
        "\u4f60\u597d\u5417\uff1f",
    ]
    assert sentences.split_document("A heading\nThen a line. ") == ["A heading", "Then a line."]


def test_real_articles_lose_nothing(data_dir):
    """Only blanks may differ between an article and its sentences; the sentences are as many as sentences
    usually are."""
    for article in read(data_dir / "wiki" / "AA" / "wiki_00")[:30]:
        found = sentences.split_document(article)
        assert "".join("".join(found).split()) == "".join(article.split())
        assert 15 < len(article.split()) / len(found) < 35
