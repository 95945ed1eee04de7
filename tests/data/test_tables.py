"""Tables in text, Parquet and Excel, with all their headers and delimiters."""

import bz2
import gzip
import io
import lzma
import pickle
import sqlite3
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from person_attributes.config import Params
from person_attributes.data.folder import FolderSource
from person_attributes.data.tables import Table, read_header, read_table
from person_attributes.errors import AnnotationsError

FRAME = pd.DataFrame(
    {"file": ["1.jpg", "2.jpg", "3.jpg"], "label": ["None", "", "NA"], "age": [3, 40, 5]}
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def _read(
    path: Path, content: str | bytes, params: Params, columns: Sequence[str] = ("file", "label")
) -> Table:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(
        FolderSource(path.parent), path.name, columns, params.data.limits, "params.yaml"
    )


def _to_bytes(frame: pd.DataFrame, suffix: str) -> bytes:
    buffer = io.BytesIO()
    if suffix == ".parquet":
        frame.to_parquet(buffer)
    else:
        frame.to_excel(buffer, index=False)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", [".parquet", ".xlsx"])
def test_parquet_and_excel_give_the_cells_of_a_csv(
    folder: Path, params: Params, suffix: str
) -> None:
    columns = list(FRAME.columns)
    expected = _read(folder / "a.csv", FRAME.to_csv(index=False), params, columns)
    table = _read(folder / f"a{suffix}", _to_bytes(FRAME, suffix), params, columns)
    assert table == expected
    assert table.columns["label"] == ["None", "", "NA"]
    assert table.columns["age"] == ["3", "40", "5"]
    assert table.lines == [2, 3, 4]


def test_the_index_of_pandas_is_the_column_without_a_name(folder: Path, params: Params) -> None:
    frame = FRAME.set_index("file").rename_axis(None)
    by_csv = _read(folder / "a.csv", frame.to_csv(), params, ["", "label"])
    by_parquet = _read(folder / "a.parquet", _to_bytes(frame, ".parquet"), params, ["", "label"])
    assert by_csv.columns[""] == by_parquet.columns[""] == FRAME["file"].tolist()
    named = _to_bytes(FRAME.set_index("file"), ".parquet")
    assert _read(folder / "b.parquet", named, params).columns["file"] == FRAME["file"].tolist()


@pytest.mark.parametrize(
    "text",
    [
        "3\nlabel age \n1.jpg  None   3\n2.jpg -1  40\n  3.jpg NA 5  \n",
        '"label" "age"\n"1.jpg" "None" 3\n"2.jpg" "-1" 40\n"3.jpg" "NA" 5\n',
        "label\tage\n1.jpg\tNone\t3\n2.jpg\t-1\t40\n3.jpg\tNA\t5\n",
        "3\r\n\r\nlabel age\r\n1.jpg\tNone 3\r\n\r\n2.jpg -1 40\r\n3.jpg NA 5\r\n",
    ],
    ids=["count and blanks", "write.table", "tabs", "windows"],
)
def test_the_header_may_lack_the_name_of_the_first_column(
    folder: Path, params: Params, text: str
) -> None:
    table = _read(folder / "a.txt", text, params, ["", "age", "label"])
    assert table.columns[""] == ["1.jpg", "2.jpg", "3.jpg"]
    assert table.columns["age"] == ["3", "40", "5"]
    assert table.columns["label"] == ["None", "-1", "NA"]
    assert not table.malformed
    assert text.splitlines()[table.lines[-1] - 1].strip(' "').startswith("3.jpg")


@pytest.mark.parametrize("first", ["sep=,", "sep=;", "sep=\t", '"sep=;"'])
def test_tables_of_spreadsheets_may_name_the_delimiter_and_have_blank_rows(
    folder: Path, params: Params, first: str
) -> None:
    delimiter = first.strip('"')[-1]
    text = "file,label\n1.jpg,a\n , \n2.jpg,\n,\n".replace(",", delimiter)
    table = _read(folder / "a.csv", f"{first}\n{text}", params)
    assert table.columns == {"file": ["1.jpg", "2.jpg"], "label": ["a", ""]}
    assert table.lines == [3, 5]


def test_a_parquet_file_without_columns_is_refused(folder: Path, params: Params) -> None:
    for frame in (pd.DataFrame(), pd.DataFrame(index=range(3))):
        with pytest.raises(
            AnnotationsError, match=r"a\.parquet: empty\. Expected a header and rows"
        ):
            _read(folder / "a.parquet", _to_bytes(frame, ".parquet"), params)


def test_text_in_parquet_may_lack_its_annotation(folder: Path, params: Params) -> None:
    frame = pd.DataFrame({"file": [b"1.jpg", b"2.jpg"], "label": ["röd".encode(), None]})
    table = _read(folder / "a.parquet", _to_bytes(frame, ".parquet"), params)
    assert table.columns == {"file": ["1.jpg", "2.jpg"], "label": ["röd", ""]}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (pa.timestamp("ms"), "12110-05-25 16:53:20.000"),
        (pa.timestamp("ms", "UTC"), "12110-05-25 16:53:20.000Z"),
    ],
    ids=str,
)
def test_dates_in_parquet_that_python_does_not_support_are_text(
    folder: Path, params: Params, kind: pa.DataType, text: str
) -> None:
    dates = pa.array([320 * 10**12]).cast(kind)
    buffer = io.BytesIO()
    pq.write_table(pa.table({"file": ["1"], "label": dates}), buffer)
    assert _read(folder / "a.parquet", buffer.getvalue(), params).columns["label"] == [text]


def test_images_in_parquet_are_not_read(folder: Path, params: Params) -> None:
    images = [b"\xff\xd8\xff\0", b"text\0"]
    frame = pd.DataFrame({"file": images, "label": [{"bytes": image} for image in images]})
    table = _read(folder / "a.parquet", _to_bytes(frame, ".parquet"), params)
    assert table.columns["file"] == ["(binary data)"] * 2
    assert table.columns["label"] == ["(nested data)"] * 2


def test_names_of_rows_in_a_file_of_r_are_not_read(folder: Path, params: Params) -> None:
    text = '"file","label"\n"1","1.jpg","a"\n"2","2.jpg",""\n"3","3.jpg","b"\n'
    table = _read(folder / "a.csv", text, params)
    assert table.columns == {"file": ["1.jpg", "2.jpg", "3.jpg"], "label": ["a", "", "b"]}
    assert not table.malformed


def test_rows_may_end_with_a_delimiter(folder: Path, params: Params) -> None:
    table = _read(folder / "a.csv", "file;label\n1.jpg;a;\n2.jpg;b; ;\n3.jpg;c;d\n", params)
    assert table.columns == {"file": ["1.jpg", "2.jpg", "3.jpg"], "label": ["a", "b", "c"]}
    assert table.malformed == {2: "3 values; the header has 2"}


def test_a_row_is_never_shifted_by_an_extra_value(folder: Path, params: Params) -> None:
    table = _read(folder / "a.csv", "file,label\n1.jpg,a,b\n2.jpg,c\n3.jpg\n", params)
    assert table.columns["file"] == ["1.jpg", "2.jpg", "3.jpg"]
    assert table.malformed == {
        0: "3 values; the header has 2",
        2: "1 values; the header has 2",
    }


@pytest.mark.parametrize("delimiter", [",", ", ", ";", "\t", "|"])
def test_names_of_columns_may_contain_blanks(folder: Path, params: Params, delimiter: str) -> None:
    rows = [["image name", "label text", "file"], ["a b", "c d", "1.jpg"]]
    text = "\n".join(delimiter.join(row) for row in rows)
    assert _read(folder / "a.csv", text, params, ["file"]).columns == {"file": ["1.jpg"]}


def test_names_of_columns_match_in_another_unicode_form(folder: Path, params: Params) -> None:
    composed, decomposed = (unicodedata.normalize(form, "städte") for form in ("NFC", "NFD"))
    assert composed != decomposed
    for stored, asked in ((composed, decomposed), (decomposed, composed)):
        table = _read(folder / "a.csv", f"{stored};x\nröd;1\n", params, [asked])
        assert table.columns == {asked: ["röd"]}


def test_names_of_columns_match_with_other_whitespace(folder: Path, params: Params) -> None:
    frame = FRAME.rename(columns={"label": "sleeve\nlength", "age": "age\u00a0 group"})
    content = _to_bytes(frame, ".xlsx")
    table = _read(folder / "a.xlsx", content, params, ["sleeve length", "age group"])
    assert table.columns["sleeve length"] == ["None", "", "NA"]
    assert table.columns["age group"] == ["3", "40", "5"]


def test_a_missing_column_is_reported_with_the_names_in_the_file(
    folder: Path, params: Params
) -> None:
    with pytest.raises(AnnotationsError) as raised:
        _read(folder / "a.csv", "12\n,lable,x\n1,2,3\n", params, ["", "label"])
    assert str(raised.value) == (
        "a.csv:2: no column 'label'. Did you mean 'lable'? Expected columns: '', label. "
        "Received: '', lable, x. The column without a name is ''. Correct the header or "
        "params.yaml."
    )
    with pytest.raises(AnnotationsError, match=r"'', x, label\. The column without a name is ''\."):
        _read(folder / "a.txt", "2\nx label\n1.jpg 2 3\n2.jpg 2 3\n", params)


@pytest.mark.parametrize(
    ("above", "line"),
    [
        ("Shop 2024;\n", 2),
        ("Shop 2024;\nby Ada;\n", 3),
        ("#;\n;\n \n", 4),
        ("Shop 2024\n", 2),
        ("# Shop, 2024\n\n", 3),
    ],
)
def test_lines_above_the_header_are_named(
    folder: Path, params: Params, above: str, line: int
) -> None:
    with pytest.raises(AnnotationsError, match=f"Line {line} has these names: delete the lines"):
        _read(folder / "a.csv", f"{above}file;label\n1.jpg;a\n", params)


def test_a_merged_cell_has_its_value_in_all_of_its_rows(folder: Path, params: Params) -> None:
    rows = [("file", "label", ""), ("1", "red", "a"), ("2", "", "b"), ("3", "blue", "")]
    with pd.ExcelWriter(folder / "a.xlsx", engine="openpyxl") as writer:
        pd.DataFrame(rows).to_excel(writer, index=False, header=False)
        for cells in ("B1:C1", "B2:B3", "E1:F9", "A7:B9"):
            writer.sheets["Sheet1"].merge_cells(cells)
    table = _read(folder / "a.xlsx", (folder / "a.xlsx").read_bytes(), params)
    assert table.columns == {"file": ["1", "2", "3"], "label": ["red", "red", "blue"]}


def test_values_may_be_longer_than_the_limit_of_the_csv_module(
    folder: Path, params: Params
) -> None:
    mask = "1 2 " * 50_000
    table = _read(folder / "a.csv", f"file,label,mask\n1,red,{mask}\n", params)
    assert table.columns == {"file": ["1"], "label": ["red"]}


@pytest.mark.parametrize("delimiter", [", ", ";  ", "\t "])
def test_quotes_may_follow_a_blank(folder: Path, params: Params, delimiter: str) -> None:
    content = f'"file"{delimiter}"label"\n"1"{delimiter}"red, dark; plain"\n'
    table = _read(folder / "a.csv", content, params)
    assert table.columns == {"file": ["1"], "label": ["red, dark; plain"]}


@pytest.mark.parametrize(
    ("row", "advice"),
    [
        ('1.jpg,"the "best" one"', "write a quotation mark inside a value twice"),
        (r'1.jpg,"the \"best\" one"', "write a quotation mark inside a value twice"),
        ('1.jpg,"the best one', "Look for an unclosed quotation mark"),
    ],
)
def test_advice_on_quotation_marks_fits_the_cause(
    folder: Path, params: Params, row: str, advice: str
) -> None:
    with pytest.raises(AnnotationsError, match=rf"a\.csv:2: not a CSV file: .*{advice}"):
        _read(folder / "a.csv", f"file,label\n{row}\n", params)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("file^label\n1.jpg^a\n", "separate them by a comma, semicolon, tab, bar or blank"),
        ('"file,label"\n"1.jpg,a"\n', "The whole line is in quotation marks"),
    ],
)
def test_a_table_with_one_column_is_explained(
    folder: Path, params: Params, text: str, advice: str
) -> None:
    with pytest.raises(AnnotationsError, match=rf"a\.csv:1: no column 'file'\..*{advice}"):
        _read(folder / "a.csv", text, params)


def test_characters_without_width_around_names_and_cells_are_removed(
    folder: Path, params: Params
) -> None:
    text = "\u200bfile,\u00a0label\u200b\n\u202a1.jpg,\u200ered\n2.jpg\ufeff,red\u200b \n\x1a"
    table = _read(folder / "a.csv", text, params)
    assert table.columns == {"file": ["1.jpg", "2.jpg"], "label": ["red", "red"]}
    assert not table.malformed


def test_a_formula_that_no_program_computed_is_not_a_missing_label(
    folder: Path, params: Params
) -> None:
    frame = pd.DataFrame([["1.jpg", "a", "=1+1"], ["2.jpg", "=B2", ""]])
    content = _to_bytes(frame.set_axis(["file", "label", "note"], axis=1), ".xlsx")
    with pytest.raises(AnnotationsError, match=r"a\.xlsx:3: column 'label' has a formula without"):
        _read(folder / "a.xlsx", content, params)
    assert _read(folder / "a.xlsx", content, params, ["file"]).columns["file"] == ["1.jpg", "2.jpg"]


def test_rows_of_a_workbook_with_blanks_only_are_ignored(folder: Path, params: Params) -> None:
    frame = pd.DataFrame({"file": ["1.jpg", " "], "label": ["a", "\u00a0"]})
    table = _read(folder / "a.xlsx", _to_bytes(frame, ".xlsx"), params)
    assert table.lines == [2]


def test_a_repeated_byte_order_mark_is_no_part_of_a_name(folder: Path, params: Params) -> None:
    content = b"\xef\xbb\xbf\xef\xbb\xbffile,label\n1,red\n"
    assert _read(folder / "a.csv", content, params).columns["file"] == ["1"]


@pytest.mark.parametrize(
    "first", [FRAME.rename(columns={"file": "about"}), FRAME.head(0), pd.DataFrame()]
)
def test_a_table_of_a_workbook_may_be_in_another_sheet(
    folder: Path, params: Params, first: pd.DataFrame
) -> None:
    content = _to_bytes(first, ".xlsx")
    with pytest.raises(AnnotationsError, match="Of a workbook, the first sheet is read"):
        _read(folder / "a.xlsx", content, params)


@pytest.mark.parametrize("column", ["file", "images/1.jpg"])
def test_a_table_without_a_header_is_refused(folder: Path, params: Params, column: str) -> None:
    with pytest.raises(AnnotationsError, match=r"^a\.csv:1: .* Add a header above this line\.$"):
        _read(folder / "a.csv", "images/1.jpg,a\nimages/2.jpg,b\n", params, [column])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_repeated_column_is_reported(folder: Path, params: Params, suffix: str) -> None:
    content = b"file,label,label\n1.jpg,a,b\n"
    if suffix == ".parquet":
        cells = [pa.array([cell]) for cell in ("1.jpg", "a", "b")]
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_arrays(cells, names=["file", "label", "label"]), buffer)
        content = buffer.getvalue()
    with pytest.raises(AnnotationsError, match="column 'label' appears 2 times"):
        _read(folder / f"a{suffix}", content, params)
    assert _read(folder / f"a{suffix}", content, params, ["file"]).columns == {"file": ["1.jpg"]}


def _make_zip(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, bytes(100))
    return buffer.getvalue()


def _make_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return buffer.getvalue()


def _make_numpy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3))
    return buffer.getvalue()


def _make_sqlite(folder: Path) -> bytes:
    connection = sqlite3.connect(folder / "a.db")
    connection.execute("create table a (b)")
    connection.close()
    return (folder / "a.db").read_bytes()


def _make_stata(folder: Path) -> bytes:
    FRAME.to_stata(folder / "a.dta", version=118)
    return (folder / "a.dta").read_bytes()


def _make_hdf5(folder: Path) -> bytes:
    h5py.File(folder / "a.h5", "w").close()
    return (folder / "a.h5").read_bytes()


def test_other_formats_are_named(folder: Path, params: Params) -> None:
    matlab = b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\1IM" + bytes(20)
    matlab73 = b"MATLAB 7.3 MAT-file".ljust(512, b"\0") + _make_hdf5(folder)
    formats = {
        "an Excel workbook. Rename it to .xlsx.": _to_bytes(FRAME, ".xlsx"),
        "a Parquet file. Rename it to .parquet.": _to_bytes(FRAME, ".parquet"),
        "a zip archive or an Excel workbook. Unpack it, or rename a workbook to .xlsx.": _make_zip(
            "labels.csv"
        ),
        "a NumPy archive. Export the table": _make_zip("labels.npy"),
        "a gzip archive. Unpack it, or export the table as CSV.": gzip.compress(b"file,label"),
        "a bzip2 archive. Unpack it": bz2.compress(b"file,label"),
        "an xz archive. Unpack it": lzma.compress(b"file,label"),
        "a tar archive. Unpack it": _make_tar(),
        "a MATLAB file. Export the table as CSV.": matlab,
        "a MATLAB file. Export the table as CSV": matlab73,
        "an HDF5 file. Export": _make_hdf5(folder),
        "a NumPy array. Export": _make_numpy(),
        "a Python pickle. Export": pickle.dumps(FRAME),
        "an SQLite database. Export": _make_sqlite(folder),
        "an encrypted Excel workbook or an .xls file. Save it as .xlsx.": b"\xd0\xcf\x11\xe0\xa1",
        "a JPEG image. Name another file.": b"\xff\xd8\xff\xe0",
        "a TIFF image. Name another file.": b"II*\0\xff",
        "an SPSS file. Export the table as CSV.": b"$FL2@(#) SPSS DATA FILE\0\xff",
        "a Stata file. Export": _make_stata(folder),
        "a SAS file. Export": bytes(12) + b"\xc2\xea\x81\x60\xb3\x14\x11\xcf",
        "an R file. Export": b"RDX3\nX\n\0\0\0\3",
        "a binary Excel workbook (.xlsb). Save it as .xlsx.": _make_zip("xl/workbook.bin"),
        "a Word document. Export": _make_zip("word/document.xml"),
        "an Apple Numbers document. Export": _make_zip("Index/Document.iwa"),
    }
    for received, content in formats.items():
        for name in ("labels.csv", "labels.mat", "labels.parquet", "labels.xlsx"):
            if f"to {Path(name).suffix}." in received:
                continue
            with pytest.raises(AnnotationsError) as raised:
                _read(folder / name, content, params)
            assert str(raised.value).startswith(
                f"{name}: expected a table: text (CSV), Parquet (.parquet) or Excel (.xlsx). "
                f"Received: {received}"
            )


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (b"PK\5\6" + bytes(18), r"Received: a zip archive .* Unpack it"),
        (zlib.compress(b"file,label"), r"Received: binary data in an unknown .* Export the table"),
        ("file,label\n1.jpg,grün\n".encode("latin-1"), r"^a\.csv:2: not UTF-8 .* as UTF-8\.$"),
        ("file,label\n1.jpg,a\n".encode("utf-16-le"), r"^a\.csv:1: contains a null .* as UTF-8\.$"),
        (b"file,label\n1.jpg,a\n\0\0", r"^a\.csv:3: contains a null .* Delete these characters\.$"),
    ],
)
def test_only_text_is_to_be_saved_as_utf_8(
    folder: Path, params: Params, content: bytes, advice: str
) -> None:
    with pytest.raises(AnnotationsError, match=advice):
        _read(folder / "a.csv", content, params)


@pytest.mark.parametrize("suffix", [".parquet", ".xlsx"])
@pytest.mark.parametrize(
    ("content", "received"),
    [
        ("file,label\n1.jpg,ö\n", r"expected a table: .* Received: text\. Rename it to \.csv"),
        ("", r"expected a table: .* Received: an empty file\. Create it again"),
        ("\0", "not a readable (Parquet file|Excel workbook): "),
    ],
    ids=["text", "empty", "unknown"],
)
def test_a_table_that_is_not_in_the_format_of_its_ending_is_refused(
    folder: Path, params: Params, suffix: str, content: str, received: str
) -> None:
    with pytest.raises(AnnotationsError, match=rf"a{suffix}: {received}"):
        _read(folder / f"a{suffix}", content, params)


def test_a_damaged_workbook_is_not_called_an_archive(folder: Path, params: Params) -> None:
    with pytest.raises(AnnotationsError, match="not a readable Excel workbook: File is not a zip"):
        _read(folder / "a.xlsx", _to_bytes(FRAME, ".xlsx")[:-30], params)


@pytest.mark.parametrize(
    ("content", "received"),
    [
        ('[{"file": "1.jpg"}]', "JSON. Export the table as CSV."),
        ('\n{\n  "images": []}', "JSON. Export the table as CSV."),
        ("<!DOCTYPE html>\n<a href='x,y'>", "an HTML or XML document. Export the table as CSV."),
        ("<table><td>file</td></table>", "an HTML or XML document. Export the table as CSV."),
        ("{\\rtf1 file,label}", "an RTF document. Export the table as CSV."),
        ("outs:\n- md5: 4d\n  path: a.csv\n",
         "a file of DVC. Name the file that it tracks, without .dvc."),
        ("/annex/objects/MD5E-s3--4d.csv\n", "a pointer of git-annex. Run git annex get."),
        ("-- MySQL dump\n\n/*!40101 SET x */;\nDROP TABLE IF EXISTS `a`;\n",
         "SQL. Export the table as CSV."),
        ("INSERT INTO a (file, label) VALUES ('1.jpg', 'a');\n", "SQL. Export the table as CSV."),
        ("@RELATION shop\n@ATTRIBUTE file string\n", "an ARFF file. Export the table as CSV."),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n",
         "a pointer of Git LFS. Run git lfs pull."),
    ],
)  # fmt: skip
def test_text_that_is_no_table_is_named(
    folder: Path, params: Params, content: str, received: str
) -> None:
    with pytest.raises(AnnotationsError) as raised:
        _read(folder / "a.csv", content, params)
    assert str(raised.value).endswith(f"Received: {received}")


@pytest.mark.parametrize("suffix", [".parquet", ".xlsx"])
def test_a_truncated_file_is_refused(folder: Path, params: Params, suffix: str) -> None:
    content = _to_bytes(FRAME, suffix)
    for length in range(8, len(content), 97):
        with pytest.raises(AnnotationsError) as raised:
            _read(folder / f"a{suffix}", content[:length], params)
        assert "\n" not in str(raised.value)


def test_text_may_begin_like_another_format(folder: Path, params: Params) -> None:
    for name in ("MATLAB", "PAR1", "BZh", "Rar!", "<date>", "RIFF", "outs"):
        assert _read(folder / "a.csv", f"{name},x\n1,2\n", params, [name]).columns == {name: ["1"]}


@pytest.mark.parametrize(
    ("content", "header"),
    [
        ("name of file,label\n1.jpg,a b c\n", ["name of file", "label"]),
        ("a;b\n1,5,2;3,5,7\n", ["a", "b"]),
        ('a,b c,d\n1,"x\ny",2\n', ["a", "b c", "d"]),
        (",a\n1.jpg,x\n", ["", "a"]),
        ("a,b\n1.jpg,x,\n", ["a", "b"]),
        ("2\na b \n1.jpg  x  y\n2.jpg -1  1\n", ["", "a", "b"]),
        ("a,a\n1,2\n", ["a", "a"]),
        ("a\n1\n", ["a"]),
    ],
)
def test_the_header_is_read_without_knowing_the_columns(
    folder: Path, params: Params, content: str, header: list[str]
) -> None:
    (folder / "a.csv").write_text(content)
    assert read_header(FolderSource(folder), "a.csv", params.data.limits) == header


@pytest.mark.parametrize("content", ["", "a,b\n"])
def test_a_header_without_rows_is_refused(folder: Path, params: Params, content: str) -> None:
    (folder / "a.csv").write_text(content)
    with pytest.raises(AnnotationsError, match="Add rows"):
        read_header(FolderSource(folder), "a.csv", params.data.limits)
