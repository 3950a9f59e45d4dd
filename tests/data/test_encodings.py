from __future__ import annotations

from pathlib import Path

import pytest

from unrolled.data import files
from unrolled.data.corpus import corpus
from unrolled.errors import UsageError

KOREAN = (
    "나는 어제 친구와 함께 영화를 보았다. 배우들의 연기가 정말 훌륭했고 음악도 좋았다.\n"
    "그런데 이야기가 조금 길어서 지루한 부분도 있었다. 그래도 다시 보고 싶은 영화이다.\n"
)
FRENCH = "Le garçon a mangé une pêche à l’école – c’était déjà l’été, où même les élèves les plus âgés rêvaient.\n"
GERMAN = "Die Würde des Menschen ist unantastbar. Sie zu achten und zu schützen ist Pflicht aller staatlichen Gewalt.\n"
ENGLISH = "“It is a truth universally acknowledged,” he said — and that was the end of it. The café was closed.\n"
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。薄暗い所で泣いていた事は記憶している。\n"
CHINESE = "我们昨天一起去看了一场电影。演员的表演非常精彩,音乐也很好听。但是故事有点长,所以有些地方有点无聊。\n"
RUSSIAN = "Вчера мы с друзьями ходили в кино. Актёры играли замечательно, и музыка была хорошая.\n"
POLISH = "Zażółć gęślą jaźń. Wczoraj poszliśmy do kina z przyjaciółmi, aktorzy grali świetnie.\n"
PLAIN = "There is a line of plain letters, and then another one; they say nothing of the encoding.\n"


def written(folder: Path, content: bytes) -> Path:
    path = folder / "book.txt"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (KOREAN, "cp949"),
        ("안녕하세요. 오늘은 날씨가 참 좋습니다.\n", "cp949"),
        ("The word 사랑 means love, and 평화 means peace in Korean.\n", "cp949"),
        ("펲시콜라, 똠방각하, 햏햏 하고 웃는 뷁 같은 글자도 있다.\n", "cp949"),
        (FRENCH, "cp1252"),
        (GERMAN, "cp1252"),
        (ENGLISH, "cp1252"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        ("昨日は友達と映画を見に行きました。俳優の演技が素晴らしくて、音楽もとても良かったです。\n", "shift_jis"),
        ("昨日は友達と映画を見に行きました。俳優の演技が素晴らしくて、音楽もとても良かったです。\n", "euc_jp"),
        ("ㅋㅋㅋ 진짜 웃기다 ㅎㅎㅎ 근데 슬퍼 ㅠㅠㅠㅠ ㅜㅜ ㅇㅇ ㄱㄱ ㄴㄴ\n", "cp949"),
        (CHINESE, "gb18030"),
        (RUSSIAN, "cp1251"),
        (POLISH, "cp1250"),
        (KOREAN, "utf-16"),
        (ENGLISH, "utf-16"),
        (ENGLISH, "utf-16-le"),
        (KOREAN, "utf-16-be"),
        (FRENCH, "utf-32"),
    ],
)
@pytest.mark.parametrize("plain", [0, 40, 4000], ids=["alone", "after-lines", "after-many-lines"])
def test_the_likely_encoding_is_suggested_and_reads_the_text(
    text: str, encoding: str, plain: int, tmp_path: Path
) -> None:
    path = written(tmp_path, (PLAIN * plain + text + PLAIN * plain).encode(encoding))
    with pytest.raises(UsageError) as caught:
        corpus(path)
    assert str(caught.value).endswith(f"; it may be {encoding}: --encoding {encoding}")
    assert "\n" not in str(caught.value)
    assert "".join(part.text for part in corpus(path, encoding=encoding).parts()).count(text) == 1


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 1000])
def test_a_wrong_byte_is_named_with_its_place_in_the_file(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK", chunk)
    path = written(tmp_path, "한국어 ab".encode() + "한국어로 쓴 글\n".encode("cp949"))
    with pytest.raises(UsageError) as caught:
        corpus(path)
    assert str(caught.value).startswith(f"{path} is no UTF-8 text: byte 0xc7 at position 12")
    with pytest.raises(UsageError, match=r"is no UTF-8 text: byte 0xed at position 2"):
        corpus(written(tmp_path, b"ab\xed\x95"))
    with pytest.raises(UsageError, match=r"is no UTF-8 text: byte 0xff at position 5"):
        corpus(written(tmp_path, b"\xef\xbb\xbfab\xff"))
    with pytest.raises(UsageError, match=r"is no cp949 text: byte 0xff at position 2"):
        corpus(written(tmp_path, b"ab\xff"), encoding="cp949")


@pytest.mark.parametrize("plain", [0, 4000])
def test_a_damaged_file_in_utf_8_is_not_taken_for_another_encoding(plain: int, tmp_path: Path) -> None:
    damaged = (PLAIN * plain).encode() + (KOREAN * 3).encode() + b"\xff" + KOREAN.encode()
    with pytest.raises(UsageError, match=r"byte 0xff at position \d+; all around it is UTF-8: mend the file there$"):
        corpus(written(tmp_path, damaged))


def test_utf_8_is_suggested_to_whoever_named_another(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no ascii text: byte 0xeb at position 0; it may be utf-8: --enc"):
        corpus(written(tmp_path, KOREAN.encode()), encoding="ascii")


def test_nothing_is_suggested_for_what_is_no_text(tmp_path: Path) -> None:
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0\0\0\1\0\x08\2\0\0\0\xd3\x10?1" + bytes(range(256)) * 20
    with pytest.raises(UsageError, match=r"book\.txt is no UTF-8 text: byte 0x89 at position 0$"):
        corpus(written(tmp_path, png))


def test_a_zero_byte_is_said_and_utf_16_without_a_mark_is_suggested(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"book\.txt is no text: it holds a zero byte at position 3$"):
        corpus(written(tmp_path, b"abc\0def"))
    with pytest.raises(UsageError, match=r"at position 1; it may be utf-16-le: --encoding utf-16-le$"):
        corpus(written(tmp_path, PLAIN.encode("utf-16-le")))
    assert corpus(written(tmp_path, PLAIN.encode("utf-16-le")), encoding="utf-16-le").characters == len(PLAIN)


def test_a_mark_that_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no utf-16 text: .*; it may be utf-16-le: --encoding utf-16-le$"):
        corpus(written(tmp_path, PLAIN.encode("utf-16-le")), encoding="utf-16")


@pytest.mark.parametrize(
    ("encoding", "hint"), [("utf9", r" Did you mean utf-8\?"), ("cp494", r" Did you mean cp949\?"), ("hex", "")]
)
def test_an_encoding_that_there_is_not_is_said_with_the_nearest(encoding: str, hint: str) -> None:
    with pytest.raises(UsageError, match=rf"^there is no encoding '{encoding}'\.{hint}"):
        corpus(["a text"], encoding=encoding)


@pytest.mark.parametrize("encoding", ["", "a\0b", "한", "rot13", "undefined"])
def test_what_is_no_name_of_an_encoding_is_said(encoding: str) -> None:
    with pytest.raises(UsageError, match=r"^there is no encoding "):
        corpus(["a text"], encoding=encoding)


def test_korean_reviews_in_the_old_encoding_are_known(data: Path, tmp_path: Path) -> None:
    with (data / "nsmc" / "ratings_train.txt").open(encoding="utf-8") as file:
        lines = [next(file).split("\t")[1] for _ in range(2000)][1:]
    for start in range(0, len(lines), 20):
        text = "\n".join(lines[start : start + 5])
        with pytest.raises(UsageError, match=r"it may be cp949"):
            corpus(written(tmp_path, text.encode("cp949", "ignore")))
