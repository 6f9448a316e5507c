from tinyllama.sources.builtin.cleaning import metamath_sections, roff_to_text, strip_proofs

DATABASE = """$( A header. $)
$(
#####
  FIRST PART
#####
$)
  $( Comments keep their $= and what follows . $)
  id $p |- ( ph -> ph ) $=
    ( wi ax-1 ) ABC DEF $.
$(
=-=-=
  Second part
=-=-=
$)
  mp2 $p |- ch $= ( a ) B $.
  ax $a |- ps $.
"""


def test_proofs_are_stripped_and_all_else_stays() -> None:
    expected = DATABASE.replace("$=\n    ( wi ax-1 ) ABC DEF $.", "$.").replace("$= ( a ) B $.", "$.")
    assert strip_proofs(DATABASE) == expected


def test_sections_begin_at_headings_and_join_to_the_database() -> None:
    sections = metamath_sections(DATABASE)
    assert "".join(sections) == DATABASE
    assert [section.splitlines()[2 if section.startswith("$(\n") else 0] for section in sections] == [
        "$( A header. $)",
        "  FIRST PART",
        "  Second part",
    ]


def test_manual_pages_lose_macros_and_keep_their_text() -> None:
    page = r""".\" a comment
.TH LS 1 2022 "GNU" 用户命令
.de XX
dropped
..
.if n \{\
dropped
.\}
.SH 名称
ls \- 列出\fB目录\fP内容\s-1X\s0 \(em \(bu \e
.PP
.BR fcntl (2)
.B "bold words" here
.BI "int open(" name );
.IP "\fB\-a\fR" 4
选项
.RS
.nf
'ta 4
\&.profile\" trailing comment
"""
    assert roff_to_text(page) == (
        "名称\nls - 列出目录内容X — • \\\n\nfcntl(2)\nbold words here\nint open(name);\n\n-a\n选项\n.profile\n"
    )


def test_mdoc_pages_lose_macros_and_keep_their_text() -> None:
    page = ".Dd today\n.Sh 概述\n.Nm crontab\n.Op Fl u Ar user\n参见\n.Xr cron 8\n.It Fl l\n列出\n"
    assert roff_to_text(page) == "概述\ncrontab\n[ -u user ]\n参见\ncron(8)\n-l\n列出\n"


def test_tables_keep_their_cells() -> None:
    page = "上文\n.TS\ntab(:);\nl l.\n名称:目的\nT{\n长的\nT}:短\n.TE\n下文\n"
    assert roff_to_text(page) == "上文\n名称:目的\n\n长的\n:短\n下文\n"


def test_a_page_that_only_names_another_is_empty() -> None:
    assert roff_to_text(".so man3/printf.3\n") == ""
