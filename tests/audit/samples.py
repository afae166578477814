"""Fake secrets, assembled here so that no scanner of this repository takes them for real ones."""

import base64
import json
import random

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def letters(count: int, seed: int = 7, alphabet: str = _LETTERS) -> str:
    return "".join(random.Random(seed).choices(alphabet, k=count))


HEX = letters(64, alphabet="0123456789abcdef")
BASE32 = letters(58, alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
_BODY = base64.encodebytes(random.Random(3).randbytes(300)).decode()
PEM = "-----BEGIN " + "PRIVATE KEY-----\n" + _BODY + "-----END PRIVATE KEY-----\n"
ENCRYPTED = (
    "-----BEGIN RSA " + "PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n" + _BODY + "-----END"
)


def jwt() -> str:
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": "service", "scope": "all"})
    coded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join((*coded, letters(43)))


TOKENS = {
    "private key": PEM,
    "AWS access key id": "AKIA" + letters(16, alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
    "AWS temporary access key id": "ASIA" + letters(16, alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
    "AWS secret access key": "aws_secret_access_key = " + letters(40),
    "Google API key": "AIza" + letters(35),
    "Google OAuth client secret": "GOCSPX-" + letters(28),
    "Azure storage key": "AccountKey=" + letters(86) + "==",
    "GitHub token": "ghp_" + letters(36),
    "GitHub fine-grained token": "github_" + "pat_" + letters(22) + "_" + letters(59, 8),
    "GitHub OAuth token": "gho_" + letters(36),
    "GitHub app token": "ghs_" + letters(36),
    "GitHub user token": "ghu_" + letters(36),
    "GitHub refresh token": "ghr_" + letters(36),
    "GitLab token": "glpat-" + letters(20),
    "GitLab deploy token": "gldt-" + letters(20),
    "GitLab runner token": "glrt-" + letters(20),
    "GitLab CI job token": "glcbt-" + letters(20),
    "Hugging Face token": "hf_" + letters(34),
    "Hugging Face organisation token": "api_org_" + letters(34),
    "Slack token": "xoxb-" + letters(12, alphabet="0123456789") + "-" + letters(24),
    "Slack app token": "xapp-1-" + letters(11, alphabet="ABCDEFGH0123456789") + "-1234098765432-" + HEX,
    "Slack webhook": "https://hooks.slack.com/services/T" + "0A9B8C7D6/B5E4F3G2H/" + letters(24),
    "OpenAI key": "sk-proj-" + letters(20) + "T3Blbk" + "FJ" + letters(20, 8),
    "Anthropic key": "sk-ant-" + "api03-" + letters(90),
    "Stripe live key": "sk_" + "live_" + letters(24),
    "PyPI token": "pypi-" + "AgEI" + letters(80),
    "npm token": "npm_" + letters(36),
    "Docker Hub token": "dckr_" + "pat_" + letters(27),
    "SendGrid key": "SG." + letters(22) + "." + letters(43, 9),
    "DigitalOcean token": "dop_" + "v1_" + HEX,
    "Databricks token": "dapi" + HEX[:32],
    "Vault token": "hvs." + letters(40),
    "age key": "AGE-SECRET-KEY-1" + BASE32,
    "PuTTY private key": "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n",
}
"""By the audit's name for them; each is found in any file."""

WRITTEN = {
    "JSON web token": jwt(),
    "password in a URL": "DATABASE = postgresql://service:" + "hun" + "ter22@db.internal:5432/app",
    "secret value": 'client_secret = "' + letters(32) + '"',
}
"""Found in what people write, not in what is published."""

TRADES = {
    "root/.netrc": "machine api.internal login me password " + letters(10),
    "etc/pip.conf": "[global]\nindex-url = https://me:" + letters(10) + "@pypi.internal/simple\n",
    "root/.pypirc": "[pypi]\nusername = me\npassword = " + letters(10) + "\n",
    "root/.docker/config.json": json.dumps({"auths": {"registry.internal": {"auth": letters(20)}}}),
    "home/mluser/.git-credentials": "https://me:" + letters(10) + "@git.internal\n",
    "app/.npmrc": "//registry.internal/:_authToken=" + letters(12) + "\n",
    "root/.aws/credentials": "[default]\naws_secret_access_key = " + letters(12) + "\n",
    "root/.config/gcloud/application_default_credentials.json": json.dumps({"refresh_token": letters(12)}),
    "root/.kube/config": "users:\n- user:\n    token: " + letters(12) + "\n",
    "root/.cache/huggingface/token": letters(30),
    "app/.env": "DEBUG=1\nDB_PASSWORD=" + letters(10) + "\n",
    "app/server.p12": "0\x82binary",
    "etc/ssh/ssh_host_rsa_key": "key",
    "root/.bash_history": "mysql -psecret\n",
}
"""Files made to hold secrets, by their paths."""

INNOCENT = {
    "app/settings.py": 'API_KEY = os.environ["API_KEY"]\ntoken = get_token(request.headers)\nsecret = "${SECRET}"\n',
    "app/README.md": "Run with `AWS_ACCESS_KEY_ID=AKIA" + "IOSFODNN7EXAMPLE` and a token of your own: ghp_" + "x" * 36,
    "app/tokenizer.json": '{"bos_token": "<|begin_of_text_12345|>", "token_type": "Abcdefgh12345678"}',
    "app/types.pyi": "secret_key: openssl.hpke." + "X25519PrivateKey1\n",
    "app/assembly.xml": 'publicKeyToken="' + HEX[:16] + '"',
    "app/accounts.yaml": 'passwd: "mluser:x:1000:1000:Machine:/home/mluser:/usr/sbin/nologin"',
    "app/proxy.md": "http://user:password@proxy:3128, http://user:pass@example.com/",
    "app/load.py": 'BEGIN = "-----BEGIN ' + 'PRIVATE KEY-----"\nEND = "-----END PRIVATE KEY-----"\n',
    "app/hashes.txt": "sha256:" + HEX + "  file\n" + HEX + "\n",
    "app/.env.example": "DB_PASSWORD=changeme\nTOKEN=\n",
    "app/uv.lock": 'url = "https://files.internal/packages/' + HEX + '/alpha.whl"\n',
    "usr/lib/python3.13/doc.py": "# ftp://me:" + 'hunter22@ftp.internal\npassword = "Abcdef1234567890xyz!"\n',
    "etc/ssl/certs/bundle.pem": "-----BEGIN CERTIFICATE-----\n" + _BODY + "-----END CERTIFICATE-----\n",
    "root/.netrc": "machine api.internal login me\n",
    "etc/pip.conf": "[global]\nindex-url = https://pypi.internal/simple\n",
    "root/.docker/config.json": '{"auths": {"registry.internal": {}}, "credsStore": "pass"}',
}  # fmt: skip
"""Looks like a secret, but is not."""
