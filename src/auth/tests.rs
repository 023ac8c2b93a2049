//! Tests of token verification and of forwarded identities.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::testing::{part, token};
use super::*;
use crate::config::Auth;
use crate::limits::JWKS_KEYS_MAX;
use crate::model::Secret;
use crate::runtime::Random;

const SECRET: &str = "a-secret-of-more-than-32-bytes-in-all";
const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_500);
const EXP: i64 = 1_700_000_100;

fn auth(secret: Option<&str>) -> Auth {
    Auth {
        api_keys: Vec::new(),
        jwt_secret: secret.map(Secret::new),
        jwks_file: None,
        jwt_issuer: None,
        jwt_audience: None,
        default_role: Role::Member,
        token_ttl: Duration::from_secs(60),
        trusted_proxy: Vec::new(),
    }
}

fn shared() -> TokenVerifier {
    TokenVerifier::of(&auth(Some(SECRET)), None).unwrap()
}

fn claims(more: &Value) -> String {
    let mut claims = json!({ "sub": "42", "exp": EXP });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims.to_string()
}

#[test]
fn claims_identify_the_bearer() {
    for (more, tenant, role, user) in [
        (json!({}), "default", Role::Member, Some("42")),
        (json!({"org_id": "acme", "role": "admin"}), "acme", Role::Admin, Some("42")),
        (json!({"tenant": "acme", "role": "viewer", "sub": 7}), "acme", Role::Viewer, Some("7")),
        (json!({"org_id": 12, "tenant": "12", "role": "publisher"}), "12", Role::Publisher, Some("42")),
        (
            json!({"org_id": "9b2f6a1e-0000-4000-8000-000000000000"}),
            "9b2f6a1e-0000-4000-8000-000000000000",
            Role::Member,
            Some("42"),
        ),
        (
            json!({"exp": EXP as f64 + 0.5, "nbf": 1_700_000_000, "iat": 1, "more": {"a": []}}),
            "default",
            Role::Member,
            Some("42"),
        ),
        // The leeway applies to both limits.
        (json!({"exp": 1_699_999_941, "nbf": 1_700_000_060}), "default", Role::Member, Some("42")),
    ] {
        let read = shared().verify(&token(SECRET, HS256, &claims(&more)), NOW);
        assert_eq!(read, Ok(Claims { tenant: tenant.into(), role, user: user.map(Into::into) }), "{more}");
    }
    let nobody = token(SECRET, HS256, &json!({ "exp": EXP }).to_string());
    assert_eq!(shared().verify(&nobody, NOW).unwrap().user, None);
}

#[test]
fn invalid_tokens_are_refused() {
    use JwtError::{Expired, Invalid, NotYetValid, Role, Tenant, Times, User};
    let good = claims(&json!({}));
    let of = |more: Value| token(SECRET, HS256, &claims(&more));
    let twice = format!(r#"{{"exp":{EXP},"exp":{},"sub":"42"}}"#, EXP * 2);
    let signed = token(SECRET, HS256, &good);
    let (unsigned, signature) = signed.rsplit_once('.').unwrap();
    for (what, token, error) in [
        ("alg none, no signature", format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&good)), Invalid),
        ("alg none, signed", token(SECRET, r#"{"alg":"none"}"#, &good), Invalid),
        ("alg of another spelling", token(SECRET, r#"{"alg":"hs256"}"#, &good), Invalid),
        ("alg HS512", token(SECRET, r#"{"alg":"HS512"}"#, &good), Invalid),
        ("alg RS256 with our secret", token(SECRET, r#"{"alg":"RS256"}"#, &good), Invalid),
        ("no alg", token(SECRET, "{}", &good), Invalid),
        ("alg twice", token(SECRET, r#"{"alg":"none","alg":"HS256"}"#, &good), Invalid),
        (
            "an extension that must be understood",
            token(SECRET, r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, &good),
            Invalid,
        ),
        ("crit null", token(SECRET, r#"{"alg":"HS256","crit":null}"#, &good), Invalid),
        ("another secret", token("another-secret-of-more-than-32-bytes", HS256, &good), Invalid),
        ("no secret", token("", HS256, &good), Invalid),
        ("no signature", format!("{unsigned}."), Invalid),
        ("two parts", unsigned.to_owned(), Invalid),
        ("four parts", format!("{signed}.{signature}"), Invalid),
        ("padded", format!("{signed}="), Invalid),
        ("the signature's other half", format!("{unsigned}.{}", &signature[..signature.len() / 2]), Invalid),
        ("empty", String::new(), Invalid),
        ("dots", "..".to_owned(), Invalid),
        ("claims that are a list", token(SECRET, HS256, "[]"), Invalid),
        ("claims in a list", token(SECRET, HS256, &format!(r#" [{EXP},1,null,null,"42",null,null,null]"#)), Invalid),
        ("a header that is a list", token(SECRET, r#"["HS256",null,null]"#, &good), Invalid),
        ("exp twice", token(SECRET, HS256, &twice), Invalid),
        ("no exp", token(SECRET, HS256, r#"{"sub":"42"}"#), Times),
        ("exp as text", of(json!({"exp": EXP.to_string()})), Times),
        ("exp null", of(json!({"exp": null})), Times),
        ("exp true", of(json!({"exp": true})), Times),
        ("exp a list", of(json!({"exp": [EXP]})), Times),
        ("nbf as text", of(json!({"nbf": "1"})), Times),
        ("nbf null", of(json!({"nbf": null})), Times),
        ("expired", of(json!({"exp": 1_699_999_940})), Expired),
        ("expired long ago", of(json!({"exp": -1})), Expired),
        ("not yet", of(json!({"nbf": 1_700_000_061})), NotYetValid),
        ("tenant *", of(json!({"tenant": "*"})), Tenant),
        ("org_id *", of(json!({"org_id": "*"})), Tenant),
        ("tenants that differ", of(json!({"tenant": "a", "org_id": "b"})), Tenant),
        ("tenant empty", of(json!({"tenant": ""})), Tenant),
        ("tenant null", of(json!({"tenant": null})), Tenant),
        ("tenant with a slash", of(json!({"tenant": "a/b"})), Tenant),
        ("a role of others", of(json!({"role": "superuser"})), Role),
        ("role null", of(json!({"role": null})), Role),
        ("roles", of(json!({"role": ["admin"]})), Role),
        ("sub empty", of(json!({"sub": ""})), User),
        ("sub an object", of(json!({"sub": {}})), User),
        ("sub with a line end", of(json!({"sub": "a\nb"})), User),
        ("sub too long", of(json!({"sub": "x".repeat(257)})), User),
    ] {
        assert_eq!(shared().verify(&token, NOW), Err(error), "{what}");
    }
    assert!(shared().verify(&signed, NOW).is_ok(), "the token that the others were made from");
}

#[test]
fn a_token_with_a_changed_byte_is_refused() {
    let good = token(SECRET, HS256, &claims(&json!({})));
    for at in 0..good.len() {
        let mut other = good.clone().into_bytes();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        let other = String::from_utf8(other).unwrap();
        assert_eq!(shared().verify(&other, NOW), Err(JwtError::Invalid), "byte {at}");
    }
}

#[test]
fn issuer_and_audience_are_checked_if_configured() {
    let rules = Auth {
        jwt_issuer: Some("https://id.example.com".into()),
        jwt_audience: Some("hooktide".into()),
        ..auth(Some(SECRET))
    };
    let tokens = TokenVerifier::of(&rules, None).unwrap();
    let good = json!({"iss": "https://id.example.com", "aud": "hooktide"});
    for (aud, iss, want) in [
        (json!("hooktide"), json!("https://id.example.com"), None),
        (json!(["other", "hooktide"]), json!("https://id.example.com"), None),
        (json!(["other"]), json!("https://id.example.com"), Some(JwtError::Audience)),
        (json!(null), json!("https://id.example.com"), Some(JwtError::Audience)),
        (json!("hooktide"), json!("https://id.example.com/"), Some(JwtError::Issuer)),
        (json!("hooktide"), json!(["https://id.example.com"]), Some(JwtError::Issuer)),
    ] {
        let said = json!({ "iss": iss, "aud": aud });
        assert_eq!(tokens.verify(&token(SECRET, HS256, &claims(&said)), NOW).err(), want, "{said}");
    }
    assert_eq!(tokens.verify(&token(SECRET, HS256, &claims(&json!({}))), NOW), Err(JwtError::Issuer));
    assert!(shared().verify(&token(SECRET, HS256, &claims(&good)), NOW).is_ok(), "not looked at when they are not");
}

#[test]
fn a_minted_token_is_accepted_until_it_expires() {
    let rules = Auth { jwt_audience: Some("hooktide".into()), ..auth(Some(SECRET)) };
    let said = Claims { tenant: "acme".into(), role: Role::Viewer, user: Some("42".into()) };
    let end = NOW.plus(Duration::from_secs(90));
    let minted = mint(&rules, &said, NOW, end).unwrap();
    let tokens = TokenVerifier::of(&rules, None).unwrap();
    assert_eq!(tokens.verify(&minted, NOW), Ok(said.clone()));
    assert_eq!(tokens.verify(&minted, end.plus(Duration::from_secs(61))), Err(JwtError::Expired));
    assert_eq!(mint(&auth(None), &said, NOW, end), None);
}

/// An Ed25519 key pair and its public key as a JWK.
fn ed25519(id: &str) -> (Ed25519KeyPair, Value) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&Random::secret::<32>()).unwrap();
    let x = BASE64URL_NOPAD.encode(pair.public_key().as_ref());
    (pair, json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "use": "sig", "x": x }))
}

fn published(keys: &[Value]) -> TokenVerifier {
    let set = KeySet::parse(&json!({ "keys": keys }).to_string()).unwrap();
    TokenVerifier::of(&auth(None), Some(set)).unwrap()
}

fn signed(header: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let text = format!("{}.{}", part(&header.to_string()), part(&claims(&json!({}))));
    format!("{text}.{}", BASE64URL_NOPAD.encode(&sign(text.as_bytes())))
}

#[test]
fn each_published_key_has_its_own_algorithm() {
    let (one, first) = ed25519("one");
    let (two, second) = ed25519("two");
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let p256 = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
    let point = p256.public_key().as_ref();
    let coordinate = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    let third = json!({ "kty": "EC", "crv": "P-256", "kid": "three", "x": coordinate(&point[1..33]), "y": coordinate(&point[33..]) });
    let tokens = published(&[first.clone(), second, third]);
    let by_one = |text: &[u8]| one.sign(text).as_ref().to_vec();
    let by_three = |text: &[u8]| p256.sign(&random, text).unwrap().as_ref().to_vec();
    for (what, token, want) in [
        ("by its id", signed(&json!({"alg": "EdDSA", "kid": "one"}), by_one), true),
        ("without an id", signed(&json!({"alg": "EdDSA"}), by_one), true),
        ("without an id, the second", signed(&json!({"alg": "EdDSA"}), |text| two.sign(text).as_ref().to_vec()), true),
        ("P-256", signed(&json!({"alg": "ES256", "kid": "three"}), by_three), true),
        ("by another's id", signed(&json!({"alg": "EdDSA", "kid": "two"}), by_one), false),
        ("by an unknown id", signed(&json!({"alg": "EdDSA", "kid": "four"}), by_one), false),
        ("another algorithm's name", signed(&json!({"alg": "ES256", "kid": "one"}), by_one), false),
        ("another algorithm's name for P-256", signed(&json!({"alg": "EdDSA", "kid": "three"}), by_three), false),
        ("none", signed(&json!({"alg": "none", "kid": "one"}), |_| Vec::new()), false),
    ] {
        assert_eq!(tokens.verify(&token, NOW).is_ok(), want, "{what}");
    }
    // A known attack: the public key is used as the shared secret.
    let x = BASE64URL_NOPAD.decode(first["x"].as_str().unwrap().as_bytes()).unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &x);
    let trick = signed(&json!({"alg": "HS256", "kid": "one"}), |text| ring::hmac::sign(&key, text).as_ref().to_vec());
    assert_eq!(tokens.verify(&trick, NOW), Err(JwtError::Invalid));
}

/// RFC 7515, appendix A.2: a token that was signed with RS256. Its claims fail here, which shows that its signature was
/// accepted.
#[test]
fn the_rs256_token_of_the_specification_verifies() {
    let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let tokens = published(&[json!({ "kty": "RSA", "n": n, "e": "AQAB" })]);
    assert_eq!(tokens.verify(token, NOW), Err(JwtError::Expired));
    let in_2011 = Timestamp::from_millis(1_300_819_000_000);
    assert_eq!(tokens.verify(token, in_2011).map(|claims| claims.user), Ok(None));
    assert_eq!(tokens.verify(&token.replace(".cC4h", ".cC4i"), in_2011), Err(JwtError::Invalid));
}

#[test]
fn a_file_of_keys_is_read_strictly() {
    let (_, good) = ed25519("one");
    for (keys, problem) in [
        (json!([]), "it has no key for RS256, ES256 or EdDSA (Ed25519)"),
        (json!([{"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}]), "it has no key"),
        (json!([{"kty": "OKP", "crv": "Ed25519", "x": good["x"], "use": "enc"}]), "it has no key"),
        (json!([{"kty": "OKP", "crv": "Ed25519", "x": good["x"], "key_ops": ["encrypt"]}]), "it has no key"),
        (json!([{"kty": "OKP", "crv": "Ed25519", "x": good["x"], "alg": "ES256"}]), "it has no key"),
        (json!([{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]), "keys[0]: x of Ed25519 is 32 bytes"),
        (json!([good, {"kty": "RSA", "n": "AQAB", "e": "AQAB"}]), "keys[1]: an RSA key has at least 2048 bits"),
        (json!([{"kty": "oct", "k": "AA"}]), "keys[0]: a shared secret goes to auth.jwt_secret"),
        (json!([{"kty": "OKP", "crv": "Ed25519", "x": good["x"], "d": "AA"}]), "keys[0]: this is a private key"),
        (json!([{"kty": "RSA", "n": "AQAB="}]), "keys[0]: a member of the key is not base64url without padding"),
        (json!(vec![good; JWKS_KEYS_MAX + 1]), "it has more than"),
    ] {
        let said = KeySet::parse(&json!({ "keys": keys }).to_string()).unwrap_err().to_string();
        assert!(said.starts_with(problem), "{keys}: {said}");
    }
    assert!(KeySet::parse("[]").unwrap_err().to_string().starts_with("it is not a JWK set"));
}

#[test]
fn only_a_trusted_proxy_names_a_user() {
    let access = AccessRules {
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        default_role: Some(Role::Viewer),
        ..AccessRules::default()
    };
    let ask =
        |peer: &str, user, org| access.forwarded_principal(peer.parse().unwrap(), ForwardedIdentity { user, org });
    let named = ask("10.1.2.3", Some("42"), Some("acme")).unwrap();
    assert_eq!((named.tenant.as_deref(), named.user.as_deref()), (Some("acme"), Some("42")));
    assert_eq!((named.role, &*named.name), (Role::Viewer, "user 42"));
    assert_eq!(ask("::ffff:10.1.2.3", Some("42"), None).unwrap().tenant.as_deref(), Some("default"));
    for (peer, user, org) in [
        ("11.0.0.1", Some("42"), None),
        ("10.1.2.3", None, Some("acme")),
        ("10.1.2.3", Some(""), None),
        ("10.1.2.3", Some("42"), Some("*")),
        ("10.1.2.3", Some("42"), Some("")),
        ("::2", Some("42"), None),
    ] {
        assert!(ask(peer, user, org).is_none(), "{peer} {user:?} {org:?}");
    }
    assert!(
        AccessRules::default()
            .forwarded_principal("127.0.0.1".parse().unwrap(), ForwardedIdentity { user: Some("42"), org: None })
            .is_none()
    );
}
