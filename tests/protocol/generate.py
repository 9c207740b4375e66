#!/usr/bin/env python3
"""Writes more.json: protocol vectors made without the crate, from docs/PROTOCOL.md alone.

    python3 tests/protocol/generate.py > tests/protocol/more.json

Needs the package `cryptography` for Ed25519; the rest, deterministic CBOR included, is written out here.
"""

import base64
import hashlib
import json
import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SIGN = Ed25519PrivateKey.from_private_bytes(bytes(range(0x80, 0xA0)))
SEAL = bytes(range(0xC0, 0xE0))  # not a key that anybody holds the private half of
EXPORTER = bytes(range(0xE0, 0xF0)) * 2
MEDIA = {
    "snp": "application/vnd.amd.sev-snp.attestation-report",
    "tdx": "application/vnd.tower-attest.tdx-quote",
    "mock": "application/vnd.tower-attest.mock-report",
}
KEYS, BATCH = "application/vnd.tower-attest.keys+json", "application/vnd.tower-attest.batch-proof"
VEK, COLLATERAL = "application/pkix-cert", "application/vnd.tower-attest.tdx-collateral+json"
TYPE = "urn:uuid:d4c66c14-a413-5a0d-bfcb-64bee0f55a6f"


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sf(data):
    return ":" + base64.b64encode(data).decode() + ":"


def public(key):
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def sha256(data):
    return hashlib.sha256(data).digest()


def sha384(data):
    return hashlib.sha384(data).digest()


# Statements -----------------------------------------------------------------------------------------------------------


def tlv(*fields):
    assert [tag for tag, _ in fields] == sorted({tag for tag, _ in fields})
    return b"".join(struct.pack(">BH", tag, len(value)) + value for tag, value in fields)


def bound(exporter):
    return b"\0" if exporter is None else b"\1" + exporter


def evidence_statement(platform, nonce, exporter, keys):
    label = b"tower-attest/1 evidence"
    return tlv((1, label), (2, b"\1"), (3, platform.encode()), (4, nonce), (5, bound(exporter)), (6, sha256(keys)))


def leaf_of(statement):
    return sha384(b"\0" + statement)


def batch_statement(platform, size, root):
    return tlv((1, b"tower-attest/1 batch"), (2, b"\1"), (3, platform.encode()), (7, struct.pack(">I", size)), (8, root))


def report_data(platform, size, root):
    return b"tower-attest/1\0\0" + sha384(batch_statement(platform, size, root))


def response_statement(nonce, exporter, keys, method, target, status):
    label, status = b"tower-attest/1 response", struct.pack(">H", status)
    return tlv(
        (1, label), (2, b"\1"), (4, nonce), (5, bound(exporter)), (6, sha256(keys)),
        (9, method.encode()), (10, target.encode()), (11, status),
    )  # fmt: skip


# RFC 9162, section 2.1, by its recursive definition -------------------------------------------------------------------


def split(size):
    k = 1
    while 2 * k < size:
        k *= 2
    return k


def root_of(leaves):
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return sha384(b"\1" + root_of(leaves[:k]) + root_of(leaves[k:]))


def path_of(index, leaves):
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return path_of(index, leaves[:k]) + [root_of(leaves[k:])]
    return path_of(index - k, leaves[k:]) + [root_of(leaves[:k])]


def proof_of(index, leaves):
    return struct.pack(">II", len(leaves), index) + b"".join(path_of(index, leaves))


def batch_leaf(index, platform, keys):
    nonce = sha256(b"nonce %d" % index)
    return leaf_of(evidence_statement(platform, nonce, EXPORTER if index % 2 else None, keys))


# Key document ---------------------------------------------------------------------------------------------------------


def key_document(**changes):
    document = {
        "v": 1,
        "instance": b64url(bytes(range(16))),
        "epoch": 3,
        "names": ["prover.example", "192.0.2.7", "[2001:db8::1]"],
        "sign": {"alg": "Ed25519", "key": b64url(public(SIGN))},
        "config": b64url(sha256(b"configuration")),
    }
    document.update({k: v.decode() if isinstance(v, bytes) else v for k, v in changes.items()})
    return json.dumps({k: v for k, v in document.items() if v is not None}, separators=(",", ":"))


def seal_config(id=3, kem=0x0020, key=SEAL, suites=((1, 1), (1, 3))):
    """RFC 9458, section 3.1, without the length that stands before each configuration of a list."""
    algorithms = b"".join(struct.pack(">HH", kdf, aead) for kdf, aead in suites)
    return struct.pack(">BH", id, kem) + key + struct.pack(">H", len(algorithms)) + algorithms


def seal_case(route=None, **changes):
    values = {"id": 3, "key": SEAL, "suites": [(1, 1), (1, 3)]} | changes
    document = key_document(seal=b64url(seal_config(**values)), route=route)
    return {
        "document": document, "sha256": sha256(document.encode()).hex(), "seal": seal_config(**values).hex(),
        "id": values["id"], "public": values["key"].hex(), "suites": values["suites"], "route": route,
    }  # fmt: skip


def key_cases(document):
    key, config = b64url(public(SIGN)), b64url(sha256(b"configuration"))
    sign = {"alg": "Ed25519", "key": key}
    refused = [
        ("a repeated member", document.replace('"epoch":3', '"epoch":3,"epoch":3')),
        ("a repeated member, spelt with an escape", document.replace('"epoch":3', '"epoch":3,"\\u0065poch":3')),
        ("a repeated member in sign", document.replace('"alg":', '"key":"","alg":')),
        ("a repeated member below an unknown one", document.replace('"epoch":3', '"epoch":3,"x":[{"y":1,"y":2}]')),
        ("another version", key_document(v=2)),
        ("the version as a string", key_document(v="1")),
        ("the version with a fraction", document.replace('"v":1', '"v":1.0')),
        ("no version", key_document(v=None)),
        ("no names", key_document(names=None)),
        ("names is a string", key_document(names="prover.example")),
        ("a name with a port", key_document(names=["prover.example:443"])),
        ("a name with white space", key_document(names=["prover example"])),
        ("an empty name", key_document(names=[""])),
        ("a name that is not ASCII", key_document(names=["bücher.example"])),
        ("a wildcard", key_document(names=["*.example"])),
        ("a name of 254 bytes", key_document(names=["a." * 126 + "aa"])),
        ("a short instance", key_document(instance=b64url(bytes(15)))),
        ("a long instance", key_document(instance=b64url(bytes(17)))),
        ("a padded instance", key_document(instance=b64url(bytes(16)) + "==")),
        ("trailing bits that are not zero", key_document(instance="AAAAAAAAAAAAAAAAAAAAAB")),
        ("the alphabet of plain base64", key_document(instance="AAAAAAAAAAAAAAAAAAAA/w")),
        ("another algorithm", key_document(sign=dict(sign, alg="Ed448"))),
        ("the algorithm in lower case", key_document(sign=dict(sign, alg="ed25519"))),
        ("a short key", key_document(sign=dict(sign, key=b64url(bytes(31))))),
        ("sign is a string", key_document(sign=key)),
        ("a short config", key_document(config=b64url(bytes(16)))),
        ("config is null", document.replace(f'"{config}"', "null")),
        ("a negative epoch", key_document(epoch=-1)),
        ("an epoch of 2^53", key_document(epoch=2**53)),
        ("an array", "[" + document + "]"),
        ("bytes after the end", document + "x"),
        ("a byte order mark", "\ufeff" + document),
        ("a lone surrogate", document.replace('"epoch":3', '"epoch":3,"x":"\\ud800"')),
        ("a noncharacter", document.replace('"epoch":3', '"epoch":3,"x":"\\uffff"')),
        ("4 097 bytes", document + " " * (4097 - len(document))),
        ("empty", ""),
        ("a key to seal to, cut short", key_document(seal=b64url(seal_config()[:-1]))),
        ("a key to seal to, and a byte", key_document(seal=b64url(seal_config() + b"\0"))),
        ("a key to seal to without suites", key_document(seal=b64url(seal_config(suites=[])))),
        ("a key to seal to with half a suite", key_document(seal=b64url(seal_config()[:-4] + b"\0\1"))),
        ("a key to seal to of 31 bytes", key_document(seal=b64url(seal_config(key=SEAL[:31])))),
        ("a key to seal to of no bytes", key_document(seal="")),
        ("a key to seal to, padded", key_document(seal=b64url(seal_config()) + "=")),
        ("an empty route", key_document(route="")),
        ("a route of 65 bytes", key_document(route="r" * 65)),
        ("a route with a space", key_document(route="zone 1")),
        ("a route with a slash", key_document(route="zone/1")),
        ("a route that is not ASCII", key_document(route="zöne")),
        ("a route that is a number", key_document(route=1)),
        ("a route that is null", key_document(route=b"null").replace('"null"', "null")),
    ]
    also_ok = [
        ("unknown members", document.replace('"epoch":3', '"epoch":3,"seal":{"x":[1,-2.5,null]},"route":"r"')),
        ("no config", key_document(config=None)),
        ("no names at all", key_document(names=[])),
        ("white space and another order", json.dumps(dict(reversed(json.loads(document).items())), indent=2)),
        ("an epoch of 2^53 - 1", key_document(epoch=2**53 - 1)),
        ("4 096 bytes", document + " " * (4096 - len(document))),
        ("a name of 253 bytes", key_document(names=["a." * 126 + "a"])),
        ("a name with an underscore", key_document(names=["my_service"])),
        ("a key to seal to, for a KEM that nobody knows", key_document(seal=b64url(seal_config(kem=0x7FFF, key=b"x")))),
        ("a key to seal to that is not a string", key_document(seal=[1])),
        ("a route of 64 bytes", key_document(route="r" * 64)),
        ("a route of every kind of character", key_document(route="-._aZ09")),
    ]
    return {
        "refused": [{"why": why, "document": text} for why, text in refused],
        "also_ok": [{"why": why, "document": text} for why, text in also_ok],
    }


# CMW ------------------------------------------------------------------------------------------------------------------


class Raw(bytes):
    """CBOR that is encoded already."""


class Pairs(list):
    """A map whose keys may repeat."""


def cbor(value):
    def head(major, argument):
        for minor, limit, form in ((None, 24, None), (24, 1 << 8, ">B"), (25, 1 << 16, ">H"), (26, 1 << 32, ">I")):
            if argument < limit:
                return bytes([major << 5 | (argument if minor is None else minor)]) + (
                    struct.pack(form, argument) if form else b""
                )
        return bytes([major << 5 | 27]) + struct.pack(">Q", argument)

    if isinstance(value, Raw):
        return bytes(value)
    if value is None:
        return b"\xf6"
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list) and not isinstance(value, Pairs):
        return head(4, len(value)) + b"".join(map(cbor, value))
    entries = sorted((cbor(k), cbor(v)) for k, v in (value.items() if isinstance(value, dict) else value))
    return head(5, len(entries)) + b"".join(k + v for k, v in entries)


def cmw_json(collection):
    return json.dumps(
        {k: v if isinstance(v, str) else [v[0], b64url(v[1])] for k, v in collection.items()}, separators=(",", ":")
    )


def collection(platform, report, keys, proof, **optional):
    records = {"__cmwc_t": TYPE, "report": [MEDIA[platform], report], "keys": [KEYS, keys], "batch": [BATCH, proof]}
    records.update({k: [VEK if k == "vek" else COLLATERAL, v] for k, v in optional.items()})
    return records


def fake_report(platform, data):
    """Bytes with the size and REPORTDATA's place of a report; no hardware signed them."""
    if platform == "snp":  # 1 184 bytes, REPORT_DATA at 0x50
        return bytes(0x50) + data + bytes([0xA5]) * (1184 - 0x50 - 64)
    if platform == "mock":  # 217 bytes, REPORTDATA at 8
        return b"MOCKTEE1" + data + bytes([0x3C]) * (217 - 8 - 64)
    return bytes(568) + data + bytes([0x5A]) * 4368  # a quote of 5 000 bytes, REPORTDATA at 48 + 520


def sample(platform, nonce, exporter, size, index, keys, **optional):
    leaves = [batch_leaf(i, platform, keys) for i in range(size)]
    leaves[index] = leaf_of(evidence_statement(platform, nonce, exporter, keys))
    report = fake_report(platform, report_data(platform, size, root_of(leaves)))
    return collection(platform, report, keys, proof_of(index, leaves), **optional)


def cmw_case(nonce, exporter, records, **more):
    case = {"nonce": nonce.hex(), "tls_exporter": exporter and exporter.hex()}
    case |= {"json": cmw_json(records), "cbor": cbor(records).hex()}
    case |= {k: records[k][1].hex() for k in ("vek", "collateral") if k in records}
    return case | more


def cmw_refused(records):
    """Every way to spoil a good collection that CBOR or JSON has."""
    good, text = cbor(records), cmw_json(records)

    def changed(label, value):
        return cbor(records | {label: value})

    def without(label):
        return {k: v for k, v in records.items() if k != label}

    def extended(entries):
        return cbor(Pairs([*records.items(), *entries]))

    cases = [
        ("a tagged collection", b"\xd9\xd9\xf7" + good),
        ("a repeated unknown text label", extended([("x", 1), ("x", 1)])),
        ("a repeated unknown integer label", extended([(7, 1), (7, 2)])),
        ("a label that is bytes", extended([(b"x", 1)])),
        ("a label that is null", extended([(None, 1)])),
        ("the type as bytes", changed("__cmwc_t", TYPE.encode())),
        ("the type in capitals", changed("__cmwc_t", TYPE.upper())),
        ("no report", cbor(without("report"))),
        ("no batch", cbor(without("batch"))),
        ("a map for a record", changed("keys", {"a": 1})),
        ("a tagged record", changed("keys", Raw(b"\xc1" + cbor(records["keys"])))),
        ("a content format for a media type", changed("keys", [0, b"{}"])),
        ("a record of one element", changed("keys", [KEYS])),
        ("a record of four elements", changed("keys", [KEYS, b"{}", 1, 1])),
        ("text for bytes", changed("keys", [KEYS, "{}"])),
        ("another media type for keys", changed("keys", ["application/json", records["keys"][1]])),
        ("another media type for batch", changed("batch", ["application/octet-stream", records["batch"][1]])),
        ("another media type for vek", changed("vek", ["application/pkcs7-mime", b""])),
        ("another media type for collateral", changed("collateral", ["application/json", b"{}"])),
        ("an unknown media type for report", changed("report", ["application/eat+cwt", b""])),
        ("a media type with a parameter", changed("keys", [KEYS + ";v=1", records["keys"][1]])),
        ("a batch proof of another length", changed("batch", [BATCH, records["batch"][1] + b"\0"])),
        ("an indefinite map without its end", b"\xbf" + good[1:]),
        ("a length past the end", bytes([good[0] + 1]) + good[1:]),
        ("a huge declared length", extended([("x", Raw(b"\x5b\x7f" + b"\xff" * 7))])),
        ("a break in a definite array", extended([("x", Raw(b"\x81\xff"))])),
        ("a reserved head", extended([("x", Raw(b"\x1c"))])),
        ("text that is not UTF-8", extended([("x", Raw(b"\x61\xff"))])),
        ("nested 5 000 deep", extended([("x", Raw(b"\x81" * 5000))])),
        ("empty", b""),
        ("an array", cbor([1])),
    ]
    refused = [{"why": why, "cbor": data.hex()} for why, data in cases]
    last = text[:-1]
    texts = [
        ("a repeated unknown label", last + ',"x":1,"x":2}'),
        ("a repeated label, spelt with an escape", last + ',"\\u006beys":["' + KEYS + '","e30"]}'),
        ("trailing bits that are not zero", last + ',"vek":["' + VEK + '","AB"]}'),
        ("the alphabet of plain base64", last + ',"vek":["' + VEK + '","+/+/"]}'),
        ("bytes that are null", last + ',"vek":["' + VEK + '",null]}'),
        ("four elements", last + ',"vek":["' + VEK + '","AA",1,1]}'),
        ("bytes after the end", text + "{}"),
        ("a trailing comma", last + ",}"),
        ("an array", "[" + text + "]"),
        ("no type", text.replace('"__cmwc_t"', '"_cmwc_t"')),
    ]
    return refused + [{"why": why, "json": data} for why, data in texts]


def cmw_also_ok(records):
    plain = records.items()
    every_kind = [1, -1, b"x", "x", {"x": None}, Raw(b"\xc1\x00"), Raw(b"\xf9\x7e\x00"), Raw(b"\xf5"), Raw(b"\x9f\xff")]
    cases = [
        ("heads longer than they must be", b"\xb9" + struct.pack(">H", len(plain)) + cbor(records)[1:]),
        ("an indefinite map", b"\xbf" + cbor(records)[1:] + b"\xff"),
        ("labels in another order", cbor(records)[:1] + b"".join(cbor(k) + cbor(v) for k, v in plain)),
        ("unknown labels with values of every kind", cbor(Pairs([*plain, ("x", every_kind), (-7, every_kind)]))),
    ]
    texts = [
        ("white space", json.dumps(json.loads(cmw_json(records)), indent=1)),
        ("a third element", cmw_json(records).replace('"],"keys"', '",4],"keys"')),
        ("unknown labels", cmw_json(records)[:-1] + ',"x":{"y":[null,true,-1.5e3]},"z":["a/b","!"]}'),
    ]
    return [{"why": why, "cbor": data.hex()} for why, data in cases] + [{"why": why, "json": data} for why, data in texts]


# Fields ---------------------------------------------------------------------------------------------------------------


def nonce_headers():
    nonce = bytes(range(0x40, 0x60))
    entries = []
    for count in range(9):
        for bind in (False, True):
            have = [sha256(b"keys %d" % n) for n in range(count)]
            value = sf(nonce) + (";bind=tls-exporter" if bind else "")
            value += ";have=" + sf(b"".join(have)) if have else ""
            entries.append({"value": value, "ok": True, "have": [d.hex() for d in have], "bind": bind})
    digest = sf(bytes(32))
    for why, ok, value in [
        ("nine documents", False, sf(nonce) + ";have=" + sf(bytes(9 * 32))),
        ("no document", False, sf(nonce) + ";have=::"),
        ("half a document more", False, sf(nonce) + ";have=" + sf(bytes(48))),
        ("have twice", False, sf(nonce) + f";have={digest};have={digest}"),
        ("an unknown parameter twice", False, sf(nonce) + ";x;x"),
        ("have is a Token", False, sf(nonce) + ";have=AAAA"),
        ("have is true", False, sf(nonce) + ";have"),
        ("bind is true", False, sf(nonce) + ";bind"),
        ("bind in capitals", False, sf(nonce) + ";bind=TLS-Exporter"),
        ("an inner list", False, "(" + sf(nonce) + ")"),
        ("a String", False, '"' + base64.b64encode(nonce).decode() + '"'),
        ("the alphabet of base64url", False, ":" + "_" * 42 + "8=:"),
        ("more than 2 KiB", False, sf(nonce) + ';x="' + "a" * 2048 + '"'),
        ("unknown parameters of every type", True, sf(nonce) + ';a=1;b=1.5;c="x";d=t;e=:AA==:;f=?0;g=@1;h=%"x";i'),
        ("spaces around", True, " " + sf(nonce) + ";  x=1 "),
    ]:
        entries.append({"value": value, "ok": ok, "why": why})
    return entries


def keys_headers():
    digest = sha256(b"keys 0")
    entries = [{"value": sf(digest), "ok": True, "keys": digest.hex()}]
    for why, ok, value in [
        ("31 bytes", False, sf(digest[:31])),
        ("two digests", False, sf(digest + digest)),
        ("a Token", False, "AAAA"),
        ("a String", False, '"' + base64.b64encode(digest).decode() + '"'),
        ("an inner list", False, "(" + sf(digest) + ")"),
        ("a list", False, sf(digest) + ", " + sf(digest)),
        ("a parameter twice", False, sf(digest) + ";x;x"),
        ("more than 512 bytes", False, sf(digest) + ';x="' + "a" * 512 + '"'),
        ("empty", False, ""),
        ("unknown parameters", True, sf(digest) + ";a=1;b=:AA==:"),
    ]:
        entries.append({"value": value, "ok": ok, "why": why})
    return entries


def report_headers(keys, evidences):
    digest = sha256(keys)
    statement = response_statement(bytes(32), None, keys, "GET", "/", 200)
    sig = SIGN.sign(statement)
    base = f"v=1, keys={sf(digest)}, sig={sf(sig)}"
    entries = [
        {"value": f"{base}, evidence={sf(e)}", "ok": True, "keys": digest.hex(), "sig": sig.hex(), "evidence": e.hex()}
        for e in evidences
    ]
    for why, ok, value in [
        ("evidence is a Token", False, base + ", evidence=AAAA"),
        ("evidence is an inner list", False, base + ", evidence=(:AAAA:)"),
        ("evidence twice", False, base + ", evidence=:AAAA:, evidence=:AAAA:"),
        ("an unknown key twice", False, base + ", x=1, x=2"),
        ("a parameter twice", False, base + ";x;x"),
        ("a parameter twice in an unknown inner list", False, base + ", x=(1;y;y)"),
        ("keys is a Token", False, base.replace(sf(digest), "AAAA")),
        ("sig is 65 bytes", False, base.replace(sf(sig), sf(sig + b"x"))),
        ("v is a String", False, base.replace("v=1", 'v="1"')),
        ("v is an inner list", False, base.replace("v=1", "v=(1)")),
        ("version 0", False, base.replace("v=1", "v=0")),
        ("a key in capitals", False, base + ", X=1"),
        ("another order, parameters, unknown keys", True, f'x=(1 "y";z);w, sig={sf(sig)};p=1,keys={sf(digest)} ,\tv=1'),
    ]:
        entries.append({"value": value, "ok": ok, "why": why})
    return entries


def main():
    document = key_document()
    keys = document.encode()
    nonce = bytes(range(0x20, 0x40))

    def evidence(platform, exporter):
        statement = evidence_statement(platform, nonce, exporter, keys)
        leaf = leaf_of(statement)
        return {
            "platform": platform, "nonce": nonce.hex(), "tls_exporter": exporter and exporter.hex(),
            "statement": statement.hex(), "leaf": leaf.hex(), "report_data_if_alone": report_data(platform, 1, leaf).hex(),
        }  # fmt: skip

    def batch(platform, size, indexes):
        leaves = [batch_leaf(index, platform, keys) for index in range(size)]
        root = root_of(leaves)
        proofs = [{"index": i, "leaf": leaves[i].hex(), "proof": proof_of(i, leaves).hex()} for i in indexes]
        data = report_data(platform, size, root).hex()
        return {"platform": platform, "size": size, "root": root.hex(), "report_data": data, "proofs": proofs}

    def response(exporter, method, target, status):
        statement = response_statement(nonce, exporter, keys, method, target, status)
        return {
            "nonce": nonce.hex(), "tls_exporter": exporter and exporter.hex(), "method": method, "target": target,
            "status": status, "statement": statement.hex(), "signature": SIGN.sign(statement).hex(),
        }  # fmt: skip

    vek = bytes([0x30, 0x82, 0x05, 0x2C]) + bytes(i * 7 % 256 for i in range(1324))
    snp = sample("snp", nonce, EXPORTER, 5, 3, keys, vek=vek)
    snp_alone = sample("snp", nonce, None, 1, 0, keys)
    mock = sample("mock", nonce, None, 1, 0, keys)
    tdx = sample("tdx", nonce, None, 2, 1, keys)
    collateral = json.dumps({"tcb_info": "x" * 300}).encode()
    tdx_full = sample("tdx", nonce, EXPORTER, 1, 0, keys, collateral=collateral)

    def truncated(proof):
        return {"why": "a path of another length", "proof": proof.hex()}

    leaves = [batch_leaf(i, "tdx", keys) for i in range(6)]
    good = [proof_of(i, leaves) for i in range(6)]
    vectors = {
        "keys": {
            "document": document, "sha256": sha256(keys).hex(), "sign_secret": SIGN.private_bytes_raw().hex(),
            "sign_public": public(SIGN).hex(), **key_cases(document),
        },
        "evidence": [evidence(p, e) for p in ("mock", "snp", "tdx") for e in (None, EXPORTER)],
        "batch": [batch("tdx", size, sorted({0, size // 2, size - 1})) for size in (6, 31, 33, 100, 257)],
        "batch_refused": [truncated(p) for g in good for p in (g[:-1], g[:-48], g + b"\0", g + bytes(48))]
        + [{"why": "index past the end", "proof": (struct.pack(">II", 6, 6) + good[5][8:]).hex()},
           {"why": "size 65 537", "proof": (struct.pack(">II", 65_537, 0) + bytes(17 * 48)).hex()},
           {"why": "seven bytes", "proof": bytes(7).hex()}, {"why": "empty", "proof": ""}],
        "response": [
            response(None, "GET", "/", 200), response(EXPORTER, "POST", "/a//b/%2e%2E/?q=a+b&q=%20", 502),
            response(None, "get", "/", 200), response(None, "PROPFIND", "/?", 207),
            response(None, "POST", "/" + "a" * 3000, 414),
        ],
        "report_header": report_headers(keys, [cbor(snp_alone), cbor(snp), cbor(tdx)]),
        "nonce_header": nonce_headers(),
        "keys_header": keys_headers(),
        "seal": [
            seal_case(), seal_case(route="tee-1"), seal_case(id=255, suites=[(1, 3)]),
            seal_case(id=0, suites=[(1, 2), (3, 1), (0x1234, 0xFFFF)], route="a"),
        ],
        "cmw": [
            cmw_case(nonce, EXPORTER, snp),
            cmw_case(nonce, None, snp_alone),
            cmw_case(nonce, None, mock, refused=cmw_refused(mock), also_ok=cmw_also_ok(mock)),
            cmw_case(nonce, None, tdx),
            cmw_case(nonce, EXPORTER, tdx_full),
        ],
    }  # fmt: skip
    print(json.dumps(vectors, indent=1))


if __name__ == "__main__":
    main()
