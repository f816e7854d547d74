"""The guess of an encoding: right for text of many languages, and silent over what is no text."""

from __future__ import annotations

import random

import pytest

from mmflow.formats.encodings.likely import likely_encodings

_TEXTS = {
    "french": "Le café était fermé; où étaient les élèves? Noël à Besançon, « déjà »",
    "german": "name;ort\nMüller;Köln\nGroß;Düsseldorf\nJörg;Österreich\n",
    "polish": "Zażółć gęślą jaźń; Łódź, Kraków, Gdańsk, Wrocław, źródło, święto",
    "czech": "Příliš žluťoučký kůň úpěl ďábelské ódy; Plzeň, České Budějovice",
    "hungarian": "Árvíztűrő tükörfúrógép; Győr, Pécs, Kőbánya",
    "russian": "Привет, мир! Москва;Санкт-Петербург\nИванов;Пётр\nСъешь ещё этих мягких булок",
    "ukrainian": "Київ;Львів\nЗдоров'я;їжак\nґанок",
    "greek": "Καλημέρα κόσμε; Αθήνα, Θεσσαλονίκη",
    "turkish": "İstanbul'da güneşli bir gün; Çanakkale, Şırnak, Iğdır, kuş, ağaç",
    "hebrew": "שלום עולם; ירושלים תל אביב",
    "arabic": "مرحبا بالعالم; القاهرة بغداد",
    "latvian": "Rīga, Jūrmala; šķēle, ģimene, žurnāls; Šiauliai, ąžuolas",
    "thai": "สวัสดีชาวโลก กรุงเทพ เชียงใหม่",
    "japanese": "日本語,名前\n東京都,田中さん\nカタカナ、ひらがな。\n",
    "chinese": "姓名,城市\n张三,北京\n李四,上海。你好,世界\n",
    "taiwanese": "姓名,城市\n張三,臺北\n李四,高雄。你好,世界\n",
    "korean": "이름,도시\n홍길동,서울\n김철수,부산 안녕하세요\n",
}


@pytest.mark.parametrize(
    ("language", "encoding"),
    [
        ("french", "windows-1252"),
        ("french", "mac-roman"),
        ("german", "windows-1252"),
        ("polish", "windows-1250"),
        ("polish", "iso-8859-2"),
        ("polish", "cp852"),
        ("czech", "windows-1250"),
        ("hungarian", "windows-1250"),
        ("russian", "windows-1251"),
        ("russian", "koi8-r"),
        ("russian", "cp866"),
        ("ukrainian", "windows-1251"),
        ("greek", "windows-1253"),
        ("turkish", "windows-1254"),
        ("hebrew", "windows-1255"),
        ("arabic", "windows-1256"),
        ("latvian", "windows-1257"),
        ("thai", "cp874"),
        ("japanese", "shift_jis"),
        ("japanese", "euc_jp"),
        ("japanese", "iso-2022-jp"),
        ("japanese", "utf-16-le"),
        ("japanese", "utf-16-be"),
        ("japanese", "utf-16"),
        ("chinese", "gb18030"),
        ("chinese", "utf-16-le"),
        ("taiwanese", "big5"),
        ("korean", "euc_kr"),
        ("korean", "iso-2022-kr"),
        ("german", "utf-32-le"),
        ("german", "utf-32-be"),
        ("german", "utf-8"),
        ("greek", "utf-8"),
    ],
)
def test_the_likeliest_encoding_is_that_of_the_text(language: str, encoding: str) -> None:
    found = likely_encodings(_TEXTS[language].encode(encoding))
    assert found[0][0] == encoding
    assert all(0 < confidence <= 1 for _, confidence in found)


def test_a_character_that_the_end_cuts_is_left_out() -> None:
    text = _TEXTS["greek"].encode()
    assert likely_encodings(text[:7])[0][0] == "utf-8"
    assert likely_encodings("日本語の文字".encode("shift_jis")[:-1])[0][0] == "shift_jis"


def test_one_accented_word_is_western_text() -> None:
    assert likely_encodings(b"caf\xe9")[0][0] == "windows-1252"
    assert "latin-1" in dict(likely_encodings(b"caf\xe9"))


def test_ascii_is_utf8() -> None:
    assert likely_encodings(b"a,b\n1,2\n") == [("utf-8", 1.0)]
    assert likely_encodings(b"") == [("utf-8", 1.0)]


def test_bytes_that_are_no_text_have_no_encoding() -> None:
    assert likely_encodings(random.Random(1).randbytes(5000)) == []
