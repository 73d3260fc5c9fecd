"""Hrefs of a hostile catalogue: forms that lead a reader to files, variables and addresses of its machine."""

import random
from urllib.parse import quote

MARKUP = (
    '<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
    "<SourceFilename>{}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
)
WMS = "<GDAL_WMS><Service name='TMS'><ServerUrl>{}</ServerUrl></Service></GDAL_WMS>"

FILE_FORMS = {
    "path": "{path}",
    "file": "file://{path}",
    "file without slashes": "file:{path}",
    "file in capitals": "FILE://{path}",
    "file of a host": "file://localhost{path}",
    "zip": "zip+file://{path}",
    "vrt": "vrt://{path}?bands=1",
    "inline VRT": MARKUP.replace("{}", "{path}"),
    "subfile": "/vsisubfile/0_1000000,{path}",
    "cached": "/vsicached?file={path}",
    "in capitals": "/VSISUBFILE/0_1000000,{path}",
    "in the middle": "https://archive.test/a/vsisubfile/0_1000000,{path}",
    "derived": "DERIVED_SUBDATASET:AMPLITUDE:{path}",
    "directory of a GeoTIFF": "GTIFF_DIR:1:{path}",
    "raw GeoTIFF": "GTIFF_RAW:{path}",
    "network path": "//{path}",
    "steps up": "https://archive.test/../../../..{path}",
    "steps up from here": "../../../../../../../../..{path}",
    "steps up, encoded": "..%2f..%2f..%2f..%2f..%2f..{path}",
    "backslashes": "\\\\..\\{path}",
    "object": "s3://..{path}",
    "archive": "/vsizip/{path}/a.tif",
    "null": "{path}\0.tif",
    "line": "\n{path}",
    "inline STACIT": '{{"type": "FeatureCollection", "href": "{path}"}}',
}
"""Forms that name the file ``path``."""

VARIABLE_FORMS = {
    "shell": "${variable}",
    "shell in braces": "${{{variable}}}",
    "file of the shell": "file://${variable}",
    "windows": "%{variable}%",
    "query": "https://archive.test/a.tif?key=${variable}",
    "environment of the process": "/proc/self/environ",
    "file of the environment": "file:///proc/self/environ",
    "text of the environment": "/vsistdin/${variable}",
    "inline": MARKUP.replace("{}", "${variable}"),
    "home": "~/${variable}",
}
"""Forms that name the environment variable ``variable``, which holds the path of a file."""

ADDRESS_FORMS = {
    "numbers": "http://127.0.0.1:{port}/secret.tif",
    "name": "http://localhost:{port}/secret.tif",
    "below the name": "http://a.localhost:{port}/secret.tif",
    "end of the name": "http://localhost.:{port}/secret.tif",
    "one number": "http://2130706433:{port}/secret.tif",
    "hexadecimal": "http://0x7f000001:{port}/secret.tif",
    "octal": "http://0177.0.0.1:{port}/secret.tif",
    "short": "http://127.1:{port}/secret.tif",
    "any": "http://0.0.0.0:{port}/secret.tif",
    "IPv6": "http://[::1]:{port}/secret.tif",
    "mapped": "http://[::ffff:127.0.0.1]:{port}/secret.tif",
    "mapped in hexadecimal": "http://[::ffff:7f00:1]:{port}/secret.tif",
    "wide digits": "http://\uff11\uff12\uff17.0.0.1:{port}/secret.tif",
    "user": "http://archive.test@127.0.0.1:{port}/secret.tif",
    "backslash": "http://127.0.0.1:{port}\\@archive.test/secret.tif",
    "encoded": "http://%31%32%37.0.0.1:{port}/secret.tif",
    "vsicurl": "/vsicurl/http://127.0.0.1:{port}/secret.tif",
    "vsicurl, encoded": "%2fvsicurl%2fhttp://127.0.0.1:{port}/secret.tif",
    "bucket": "s3://127.0.0.1:{port}?/secret.tif",
    "bucket with a user": "s3://a@127.0.0.1:{port}/secret.tif",
    "other scheme": "ftp://127.0.0.1:{port}/secret.tif",
    "network path": "//127.0.0.1:{port}/secret.tif",
    "inline WMS": WMS.replace("{}", "http://127.0.0.1:{port}/secret.tif"),
    "name that resolves": "http://rebound.test:{port}/secret.tif",
    "metadata": "http://169.254.169.254/latest/meta-data",
}
"""Forms that name a server of this machine at ``port``; ``rebound.test`` resolves to it."""


def all_forms(*, path, variable, port):
    """Return every form by name."""
    known = {"path": str(path), "variable": variable, "port": port}
    kinds = {"file": FILE_FORMS, "variable": VARIABLE_FORMS, "address": ADDRESS_FORMS}
    return {f"{kind}: {name}": form.format(**known) for kind, forms in kinds.items() for name, form in forms.items()}


def mutate(href, rng):
    """Return an href written in another way: letters in the other case, encoded, with something around it."""
    for _ in range(rng.randint(0, 3)):
        href = rng.choice(_CHANGES)(href, rng)
    return href


def _swap_case(href, rng):
    return "".join(letter.swapcase() if rng.random() < 0.3 else letter for letter in href)


def _encode(href, rng):
    return "".join(f"%{ord(letter):02x}" if rng.random() < 0.2 and ord(letter) < 128 else letter for letter in href)


def _encode_whole(href, _):
    return quote(href, safe=":")


def _insert(href, rng):
    at = rng.randint(0, len(href))
    return (
        href[:at]
        + rng.choice(["\t", "\r\n", "\0", " ", "/./", "//", "\\", "#", "?", ";", "@", "%00", "/vsigzip/"])
        + href[at:]
    )


def _wrap(href, rng):
    return rng.choice(["/vsigzip/{}", "{}.tif", "vrt://{}", "{}?a=b", " {}", "{}/", "file:{}", "/vsicurl/{}"]).format(
        href
    )


_CHANGES = (_swap_case, _encode, _encode_whole, _insert, _wrap)


def make_hostile(count, *, seed=0, **known):
    """Return so many hrefs: every form, then mutations of them."""
    rng = random.Random(seed)
    forms = list(all_forms(**known).values())
    return (forms + [mutate(rng.choice(forms), rng) for _ in range(count - len(forms))])[:count]
