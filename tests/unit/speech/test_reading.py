"""Lines as people write them, and as people read them aloud: words, and sounds where the words have two."""

from __future__ import annotations

import pytest

pytest.importorskip("num2words", reason="the extra 'speech' is not installed")

from vortex.errors import InputError
from vortex.speech.text import read_text

LINES = """
Pens, books, etc. | pens books et cetera
Pens, etc., are cheap. | pens et cetera are cheap
Keep it at 40–60°C. | keep it at forty to sixty degrees celsius
Keep it at 40-60 °C. | keep it at forty to sixty degrees celsius
Keep it at 40—60°F. | keep it at forty to sixty degrees fahrenheit
It costs $5–$10. | it costs five to ten dollars
It costs $5-10. | it costs five to ten dollars
It grew 5-10% in a year. | it grew five to ten percent in a year
It grew 5%–10%. | it grew five to ten percent
a loan of $2-3 million | a loan of two to three million dollars
World War II ended. | world war two ended
Henry VIII had six wives. | henry the eighth had six wives
Chapter IV | chapter four
Louis XIV of France | louis the fourteenth of france
Queen Elizabeth II died in 2022. | queen elizabeth the second died in twenty twenty two
King George V was there. | king george the fifth was there
Elizabeth I ruled. | elizabeth the first ruled
Part I. The start | part one the start
Act III, Scene II | act three scene two
Super Bowl XLII | super bowl forty two
Rocky III is a film. | rocky three is a film
the XIX century | the nineteenth century
Malcolm X spoke. | malcolm x spoke
Vitamin C and plan B | vitamin c and plan b
I read page iv. | i read page four
She said—'hi'—and left. | she said hi and left
one–two, three—four | one two three four
Wait -- what? | wait what
He is 5'11" tall. | he is five foot eleven tall
She is 5’4”. | she is five foot four
a 6' tall fence | a six foot tall fence
a 24" screen | a twenty four inch screen
"We were 12" he said. | we were twelve he said
5 ft. 2 in. tall | five feet two inches tall
The room is 12 ft. wide. | the room is twelve feet wide
It weighs 3 lbs. 4 oz. in all. | it weighs three pounds four ounces in all
dichlorodiphenyltrichloroethane | dichlorodiphenyltrichloroethane
Visit www.bbc.co.uk now. | visit w w w dot b b c dot co dot u k now
See https://example.com/docs. | see example dot com slash docs
Write to john.smith@example.org! | write to john dot smith at example dot org
Mail me_2@site.co.uk | mail me underscore two at site dot co dot u k
Go to openai.com, please. | go to openai dot com please
the file report.pdf | the file report dot p d f
Call 1-800-FLOWERS | call one eight hundred flowers
+1 (555) 123-4567 | plus one five five five one two three four five six seven
Call 555-1234. | call five five five one two three four
(212) 555-0100 | two one two five five five zero one zero zero
Dial 911 now. | dial nine one one now
+44 20 7946 0958 | plus four four two zero seven nine four six zero nine five eight
123-45-6789 | one two three four five six seven eight nine
E = mc² | e equals m c squared
2^10 | two to the power of ten
x^3 | x cubed
10^-6 m | ten to the power of minus six m
₹500 | five hundred rupees
5¢ | five cents
1¢ | one cent
25-50¢ | twenty five to fifty cents
1½ cups | one and a half cups
½ cup | one half cup
2 3/4 inches | two and three quarters inches
5/8 of it | five eighths of it
a 7/10 chance | a seven tenths chance
24/7 service | twenty four seven service
50/50 | fifty fifty
CO2 levels | c o two levels
CO₂ levels | c o two levels
H2O | h two o
C6H12O6 | c six h twelve o six
C# and F# | c sharp and f sharp
C++ | c plus plus
.NET and Node.js | dot net and node dot j s
€29,99 | twenty nine euros and ninety nine cents
29,99 € | twenty nine euros and ninety nine cents
€1.234,56 | one thousand two hundred and thirty four euros and fifty six cents
£3.50 | three pounds and fifty pence
¥1,000 | one thousand yen
500 USD | five hundred us dollars
US$20 | twenty us dollars
a $5 bill | a five dollar bill
$1.2 billion | one point two billion dollars
$10K | ten thousand dollars
$60/hour | sixty dollars per hour
9:30-11:00 | nine thirty to eleven
9:30–11:15 am | nine thirty to eleven fifteen am
9am-5pm | nine am to five pm
9 a.m.–5 p.m. | nine am to five pm
from 9-5 | from nine to five
at 07:45 | at seven forty five
1:23:45 | one twenty three forty five
16:9 | sixteen to nine
Mon. and Tues. | monday and tuesday
Mon.–Fri. | monday to friday
Mon-Fri | monday to friday
Sat. and Sun. | saturday and sunday
The sat. nav. | the sat nav
a.k.a. Bob | also known as bob
pp. 12 | pages twelve
pp. 12–15 | pages twelve to fifteen
p. 7 | page seven
See fig. 3, vol. 2, ch. 9. | see figure three volume two chapter nine
No. 10 and Nos. 3-4 | number ten and numbers three to four
No. I refuse. | no i refuse
e.g. cats, i.e. pets | for example cats that is pets
Smith et al. wrote it. | smith and others wrote it
cats vs. dogs | cats versus dogs
approx. 5 min. | approximately five minutes
min. 5 and max. 9 | minimum five and maximum nine
Mr Smith and Dr Jones | mister smith and doctor jones
Lt. Col. Brown | lieutenant colonel brown
Warner Bros. Inc. | warner brothers incorporated
in Jan. and Feb. 2020 | in january and february twenty twenty
c. 1850 | circa eighteen fifty
w/o sugar, w/ milk | without sugar with milk
and/or | and or
N/A | not applicable
The ﬁne ligature ﬂows. | the fine ligature flows
Soft\u00adhyphen | softhyphen
zero\u200bwidth | zerowidth
naïve café façade | naive cafe facade
ﬁrst ½ | first one half
May 3-5 | may third to fifth
3–5 May 2024 | the third to the fifth of may twenty twenty four
Dec. 25th, 1999 | december twenty fifth nineteen ninety nine
the 4th of July | the fourth of july
14.03.2026 | march fourteenth twenty twenty six
2026-03-14T10:30 | march fourteenth twenty twenty six ten thirty
1939-1945 | nineteen thirty nine to nineteen forty five
1939–45 | nineteen thirty nine to forty five
the 1990s | the nineteen nineties
the '60s | the sixties
the 2010s | the twenty tens
in his 20s | in his twenties
the 1800s | the eighteen hundreds
in 1066 | in ten sixty six
in 1905 | in nineteen oh five
the 1,000th | the one thousandth
the 21st and 101st | the twenty first and one hundred and first
747s | seven hundred and forty sevens
0.5 and .25 | zero point five and point two five
3.14159 | three point one four one five nine
-12.5 | minus twelve point five
v2.0 | version two point zero
version 3.11.2 | version three point eleven point two
192.168.0.1 | one hundred and ninety two dot one hundred and sixty eight dot zero dot one
They won 3-1. | they won three to one
99.9% | ninety nine point nine percent
5 - 3 = 2 | five minus three equals two
3 × 4 = 12 | three times four equals twelve
10 × 15 cm | ten by fifteen centimetres
3 + 4 ÷ 2 | three plus four divided by two
±5 | plus or minus five
≈ 20 | about twenty
x ≤ 5 | x less than or equal to five
√9 | the square root of nine
20 m² | twenty square metres
5 cm³ | five cubic centimetres
9.8 m/s² | nine point eight metres per second squared
100 km/h | one hundred kilometres per hour
5 kg/m³ | five kilograms per cubic metre
a 10-km run | a ten kilometre run
5–10 km | five to ten kilometres
500 MB, 2 GB | five hundred megabytes two gigabytes
230 V and 60 W | two hundred and thirty volts and sixty watts
5 μm | five micrometres
250 ml | two hundred and fifty millilitres
40° N | forty degrees north
40°26'46" N | forty degrees twenty six minutes forty six seconds north
a 10-year-old | a ten year old
#5 and #hashtag | number five and hashtag
@bob said hi | at bob said hi
R&D at AT&T | r and d at at and t
α and β | alpha and beta
§ 5 | section five
© 2024 | copyright twenty twenty four
1st, 2nd, 3rd | first second third
1,234,567 | one million two hundred and thirty four thousand five hundred and sixty seven
Boeing 747 | boeing seven hundred and forty seven
12 St. Paul St. | twelve saint paul street
5'6"–5'8" tall | five foot six to five foot eight tall
6ft 2in tall | six feet two inches tall
2024/05/06 | may sixth twenty twenty four
1.5x faster | one point five times faster
₹1,00,000 | one hundred thousand rupees
№ 5 | number five
Monday–Friday | monday to friday
10 000 people | ten thousand people
1 250 000 | one million two hundred and fifty thousand
1e-6 | one times ten to the power of minus six
FY2024 | fy twenty twenty four
Prices rose 3.5%-4% vs. 2%. | prices rose three point five to four percent versus two percent
₩500; ₽20 | five hundred won twenty roubles
350°F for 20-25 min. | three hundred and fifty degrees fahrenheit for twenty to twenty five minutes
The Sun. It is hot. | the sun it is hot
It's 5 in. wide. | its five inches wide
5'3 and 6'1 | five foot three and six foot one
"""
TABLE = [
    tuple(part.strip() for part in line.encode().decode("unicode_escape").split("|"))
    if "\\u" in line
    else tuple(part.strip() for part in line.split("|"))
    for line in LINES.strip().splitlines()
]


def words(text: str) -> str:
    """Return what is spoken in small letters, without punctuation."""
    spoken = " ".join(sentence.text for sentence in read_text(text).sentences)
    return " ".join("".join(c if c.isalpha() else " " for c in spoken.replace("'", "")).lower().split())


def test_the_table_has_150_lines() -> None:
    assert len(TABLE) >= 150
    assert len({written for written, _ in TABLE}) == len(TABLE)


@pytest.mark.parametrize(("written", "spoken"), TABLE)
def test_a_line_is_read_as_a_person_reads_it(written: str, spoken: str) -> None:
    assert words(written) == spoken


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Guten Tag, wie geht es Ihnen? Das ist nicht gut.", "German"),
        ("Bonjour, je suis dans la maison avec vous.", "French"),
        ("Hola, ¿cómo está usted? Yo no lo sé, pero es muy bueno.", "Spanish"),
        ("Ciao, come stai? Questo non è per la mia casa.", "Italian"),
        ("Olá, eu não sei se você está com ela, mas isso é muito bom.", "Portuguese"),
        ("Het is niet de eerste keer dat ik naar een huis ga.", "Dutch"),
    ],
)
def test_a_text_in_another_language_is_refused_by_name(text: str, language: str) -> None:
    with pytest.raises(InputError, match=rf"seems to be {language}; .* vortex animate"):
        read_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "She said 'je ne sais quoi' and left for the opera.",
        "Las Vegas, Los Angeles, San Diego and El Paso are cities.",
        "A la carte.",
        "Die hard, or die in the war.",
        "Leonardo da Vinci and Vincent van Gogh met de Gaulle.",
    ],
)
def test_foreign_words_in_an_english_text_are_read(text: str) -> None:
    assert read_text(text).sentences


@pytest.mark.parametrize("text", ["Привет, мир", "Hello, 你好.", "שלום", "Ελληνικά", "こんにちは", "नमस्ते"])
def test_another_script_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"cannot be read as English; write it in Latin letters"):
        read_text(text)


def test_what_cannot_be_read_is_named_once() -> None:
    reading = read_text("Fine 😀 and 😀, ✓ done.")
    assert reading.notes == ("not read aloud: 😀 (grinning face), ✓ (check mark)",)
    assert reading.sentences[0].text == "Fine and, done."
    assert read_text("Plain — 'text' (with) 5% [marks] & more…").notes == ()
