"""Webhooks as the providers' own libraries sign them, a JSON object a line: the source that is to take it, the request,
and what must become of it. Every request is new: ids and times are those of now."""

import base64
import datetime
import json
import time
import uuid

NOW = int(time.time())


def case(source, headers, body, event_type, external_id=None, query=""):
    body = body if isinstance(body, bytes) else body.encode()
    headers.setdefault("Content-Type", "application/json")
    print(json.dumps({
        "source": source,
        "query": query,
        "headers": headers,
        "body": base64.b64encode(body).decode(),
        "type": event_type,
        "external_id": external_id,
    }))


def stripe():
    from stripe import WebhookSignature

    secret = "whsec_5f2a1cde77b04b2b8a4e"
    event_id = "evt_" + uuid.uuid4().hex
    body = json.dumps({
        "id": event_id, "object": "event", "type": "payment_intent.succeeded", "livemode": False, "created": NOW,
        "api_version": "2024-06-20", "account": "acct_1032D82eZvKYlo2C",
        "data": {"object": {"id": "pi_1", "object": "payment_intent", "amount": 2000, "currency": "eur"}},
    })
    signature = WebhookSignature._compute_signature(f"{NOW}.{body}", secret)
    header = f"t={NOW},v1={signature},v0=" + "0" * 64
    case({"name": "stripe", "kind": "stripe", "secrets": [secret]}, {"Stripe-Signature": header}, body,
         "payment.succeeded", event_id)


def standard_webhooks():
    from standardwebhooks.webhooks import Webhook

    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    event_id = "msg_" + uuid.uuid4().hex
    body = '{"type": "user.created",  "data": {"name": "Zo\\u00eb ☃"}}'
    signature = Webhook(secret).sign(event_id, datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc), body)
    case({"name": "standard", "kind": "standard-webhooks", "secrets": [secret]},
         {"webhook-id": event_id, "webhook-timestamp": str(NOW), "webhook-signature": signature}, body,
         "standard.user.created", event_id)


def svix():
    from svix.webhooks import Webhook

    secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
    event_id = "msg_" + uuid.uuid4().hex
    body = '{"type":"invoice.paid","data":{}}'
    signature = Webhook(secret).sign(event_id, datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc), body)
    case({"name": "svix", "kind": "svix", "secrets": [secret]},
         {"svix-id": event_id, "svix-timestamp": str(NOW), "svix-signature": "v1,AAAA " + signature}, body,
         "svix.invoice.paid", event_id)


def slack():
    from slack_sdk.signature import SignatureVerifier

    secret = "8f742231b10e8888abcd99yyyzzz85a5"
    verifier = SignatureVerifier(secret)

    def signed(body, content_type):
        signature = verifier.generate_signature(timestamp=str(NOW), body=body)
        assert verifier.is_valid(body=body, timestamp=str(NOW), signature=signature)
        return {"X-Slack-Request-Timestamp": str(NOW), "X-Slack-Signature": signature, "Content-Type": content_type}

    source = {"name": "slack", "kind": "slack", "secrets": [secret]}
    event_id = "Ev" + uuid.uuid4().hex[:10].upper()
    body = json.dumps({"type": "event_callback", "event_id": event_id, "event": {"type": "app_mention", "text": "<@U1> hi"}})
    case(source, signed(body, "application/json"), body, "slack.app_mention", event_id)
    form = f"token=x&command=%2Fweather&text=94070&user_name=Steve&trigger_id={uuid.uuid4().hex}"
    case(source, signed(form, "application/x-www-form-urlencoded"), form, "slack.weather")


def twilio():
    from twilio.request_validator import RequestValidator

    secret = "12345678901234567890123456789012"
    fields = {"MessageSid": "SM" + uuid.uuid4().hex, "MessageStatus": "delivered", "To": "+18005551212", "Body": "a b&c=d"}
    signature = RequestValidator(secret).compute_signature("https://hooks.example.com/api/v1/webhooks/twilio", fields)
    from urllib.parse import urlencode

    token = str(uuid.uuid4())
    headers = {"X-Twilio-Signature": signature, "I-Twilio-Idempotency-Token": token,
               "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}
    case({"name": "twilio", "kind": "twilio", "secrets": [secret]}, headers, urlencode(fields), "twilio.delivered", token)


def discord():
    from nacl.signing import SigningKey

    key = SigningKey.generate()
    body = json.dumps({"id": str(uuid.uuid4().int)[:18], "type": 2, "data": {"name": "ping"}})
    signature = key.sign(f"{NOW}{body}".encode()).signature.hex()
    public = key.verify_key.encode().hex()
    case({"name": "discord", "kind": "discord", "secrets": [public]},
         {"X-Signature-Ed25519": signature, "X-Signature-Timestamp": str(NOW)}, body, "discord.2", json.loads(body)["id"])


def sendgrid():
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from sendgrid.helpers.eventwebhook import EventWebhook

    key = ec.generate_private_key(ec.SECP256R1())
    public = base64.b64encode(key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)).decode()
    body = '[{"email":"example@test.com","event":"processed","sg_event_id":"%s"}]\r\n' % uuid.uuid4().hex
    signature = base64.b64encode(key.sign(f"{NOW}{body}".encode(), ec.ECDSA(hashes.SHA256()))).decode()
    assert EventWebhook(public).verify_signature(body, signature, str(NOW))
    case({"name": "sendgrid", "kind": "sendgrid", "secrets": [public]},
         {"X-Twilio-Email-Event-Webhook-Signature": signature, "X-Twilio-Email-Event-Webhook-Timestamp": str(NOW)}, body,
         "sendgrid.processed")


def adyen():
    from Adyen.util import generate_notification_sig, is_valid_hmac_notification

    secret = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
    item = {"pspReference": uuid.uuid4().hex[:16].upper(), "originalReference": "", "merchantAccountCode": "TestMerchant",
            "merchantReference": "TestPayment-1407325143704", "amount": {"value": 1130, "currency": "EUR"},
            "eventCode": "AUTHORISATION", "success": "true"}
    item["additionalData"] = {"hmacSignature": generate_notification_sig(item, secret).decode()}
    assert is_valid_hmac_notification(json.loads(json.dumps(item)), secret)
    body = json.dumps({"live": "false", "notificationItems": [{"NotificationRequestItem": item}]})
    case({"name": "adyen", "kind": "adyen-payment", "secrets": [secret]}, {}, body, "adyen.AUTHORISATION",
         f"{item['pspReference']}:AUTHORISATION:true")


def hubspot():
    from hubspot.utils.signature import Signature

    secret = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
    body = json.dumps([{"eventId": NOW, "subscriptionType": "contact.creation", "occurredAt": NOW * 1000, "attemptNumber": 0}])
    at = str(NOW * 1000)
    signature = Signature.get_signature(secret, body, "v3", "https://hooks.example.com/api/v1/webhooks/hubspot?a=1", "POST", at)
    case({"name": "hubspot", "kind": "hubspot-v3", "secrets": [secret]},
         {"X-HubSpot-Signature-v3": signature, "X-HubSpot-Request-Timestamp": at}, body, "hubspot.contact.creation",
         query="a=1")


def braintree():
    from urllib.parse import urlencode

    from braintree import BraintreeGateway, Configuration, Environment

    secret = "a-private-key-of-braintree"
    gateway = BraintreeGateway(Configuration(Environment.Sandbox, "merchant", "public_key", secret))
    sample = gateway.webhook_testing.sample_notification("subscription_went_past_due", uuid.uuid4().hex)
    payload = sample["bt_payload"].decode()
    gateway.webhook_notification.parse(sample["bt_signature"], payload)
    case({"name": "braintree", "kind": "braintree", "secrets": [secret], "options": {"public_key": "public_key"}},
         {"Content-Type": "application/x-www-form-urlencoded"},
         urlencode({"bt_signature": sample["bt_signature"], "bt_payload": payload}), "braintree.event")


def livekit():
    import hashlib

    import jwt

    secret = "an-api-secret-of-livekit-0123456789abcdef"
    body = json.dumps({"event": "room_started", "id": "EV_" + uuid.uuid4().hex[:10], "room": {"name": "a"}})
    digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
    token = jwt.encode({"iss": "api-key", "nbf": NOW, "exp": NOW + 300, "sha256": digest}, secret, algorithm="HS256")
    case({"name": "livekit", "kind": "livekit", "secrets": [secret], "options": {"api_key": "api-key"}},
         {"Authorization": token, "Content-Type": "application/webhook+json"}, body, "livekit.room_started",
         json.loads(body)["id"])


def plaid():
    import hashlib

    import jwt
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    published = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    published.update({"kid": "one", "use": "sig", "alg": "ES256"})
    body = json.dumps({"webhook_code": "DEFAULT_UPDATE", "item_id": uuid.uuid4().hex}, indent=2)
    digest = hashlib.sha256(body.encode()).hexdigest()
    token = jwt.encode({"iat": NOW, "request_body_sha256": digest}, key, algorithm="ES256", headers={"kid": "one"})
    options = {"environment": "sandbox", "client_id": "me", "secret": "a-secret-of-plaid"}
    case({"name": "plaid", "kind": "plaid", "secrets": [json.dumps(published)], "options": options},
         {"Plaid-Verification": token}, body, "plaid.DEFAULT_UPDATE")


for provider in [stripe, standard_webhooks, svix, slack, twilio, discord, sendgrid, adyen, hubspot, braintree,
                 livekit, plaid]:
    provider()
