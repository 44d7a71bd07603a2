// SPDX-License-Identifier: MIT

// TLS, and what is shown to servers.

#include "fetch_fixture.hpp"

namespace thaw::fetch {
namespace {

TEST_F(FetchTest, ACertificateOfUnknownOriginIsRefused) {
    const auto end = probe(web_->tls_url("/object"));
    EXPECT_EQ(name(end), source_error::kTls) << text(end);
    EXPECT_EQ(end.tries, 1U);
    EXPECT_FALSE(end.retryable);
}

TEST_F(FetchTest, ACertificateOfAnotherHostIsRefused) {
    auto url = web_->tls_url("/object");
    url.replace(url.find("127.0.0.1"), 9, "localhost");
    credential(
        "Url=https://localhost" + url.substr(17, url.find('/', 17) - 17) +
        "/\nCertificateAuthority=ca.pem\n"
    );
    const auto end = probe(url);
    EXPECT_EQ(name(end), source_error::kTls) << text(end);
}

TEST_F(FetchTest, FetchesOverTlsAndHttp2) {
    credential("Url=" + web_->tls_url("/") + "\nCertificateAuthority=ca.pem\n");
    serve("/h2/object", content_);
    target_ = memory(kSize);
    const auto end = fetch(
        {.url = web_->tls_url("/h2/object"),
         .identity = identity(web_->tls_url("/h2/object")),
         .length = kSize,
         .target = target_.get()}
    );
    ASSERT_TRUE(end.result) << text(end);
    EXPECT_TRUE(bytes(target_, 0, kSize) == content_);
}

TEST_F(FetchTest, ShowsUserAndPasswordToTheirServerOnly) {
    serve("/private/object", "private");
    const std::string authority = "\nCertificateAuthority=ca.pem\n";
    credential("Url=" + web_->tls_url("/") + authority);
    EXPECT_EQ(name(probe(web_->tls_url("/private/object"))), source_error::kCredentials);
    credential("Url=" + web_->tls_url("/private") + authority + "User=thaw\nPassword=secret\n");
    const auto end = probe(web_->tls_url("/private/object"));
    EXPECT_TRUE(end.result) << text(end);
    // Another server of the same host gets to see nothing of it.
    credential("Url=" + web_->tls_proxied("/private") + authority + "User=thaw\nPassword=secret\n");
    EXPECT_TRUE(probe(web_->tls_proxied("/private/object")).result);
    ASSERT_EQ(web_->request_count(), 1U);
    EXPECT_TRUE(web_->requests()[0]["headers"].contains("Authorization"));
    web_->forget();
    EXPECT_TRUE(probe(web_->proxied("/private/object")).result);
    ASSERT_EQ(web_->request_count(), 1U);
    EXPECT_FALSE(web_->requests()[0]["headers"].contains("Authorization"));
}

TEST_F(FetchTest, ShowsABearerToken) {
    serve("/token/object", "token");
    const auto url = "Url=" + web_->tls_url("/token/") + "\nCertificateAuthority=ca.pem\n";
    credential(url + "BearerToken=wrong\n");
    EXPECT_EQ(name(probe(web_->tls_url("/token/object"))), source_error::kCredentials);
    credential(url + "BearerToken=open-sesame\n");
    const auto end = probe(web_->tls_url("/token/object"));
    EXPECT_TRUE(end.result) << text(end);
}

TEST_F(FetchTest, ShowsAClientCertificate) {
    serve("/cert/object", "cert");
    const auto url = "Url=" + web_->tls_url("/cert/") + "\nCertificateAuthority=ca.pem\n";
    credential(url);
    EXPECT_EQ(name(probe(web_->tls_url("/cert/object"))), source_error::kCredentials);
    credential(url + "ClientCertificate=client.pem\nClientKey=client.key\n");
    const auto end = probe(web_->tls_url("/cert/object"));
    EXPECT_TRUE(end.result) << text(end);
}

TEST_F(FetchTest, SignsForS3) {
    web_->spoil({.kind = "sigv4", .value = "key-of-thaw"});
    const auto url = "Url=" + web_->tls_proxied("/") + "\nCertificateAuthority=ca.pem\n" +
                     "S3AccessKey=THAW\nS3Region=eu-test-1\nS3SecretKey=";
    credential(url + "other-key\n");
    EXPECT_EQ(name(probe(web_->tls_proxied("/object"))), source_error::kCredentials);
    credential(url + "key-of-thaw\n");
    const auto end = probe(web_->tls_proxied("/object"));
    EXPECT_TRUE(end.result) << text(end);
    const auto requests = web_->requests();
    const auto shown = requests.back()["headers"]["Authorization"].get<std::string>();
    EXPECT_TRUE(shown.starts_with("AWS4-HMAC-SHA256 Credential=THAW/")) << shown;
    EXPECT_NE(shown.find("/eu-test-1/s3/aws4_request"), std::string::npos) << shown;
}

TEST_F(FetchTest, SecretsAreNeverSentInTheClearNorLogged) {
    serve("/private/object", "private");
    credential("Url=" + web_->proxied("/") + "\nUser=thaw\nPassword=very-secret\n");
    EXPECT_TRUE(probe(web_->proxied("/private/object")).result);
    EXPECT_FALSE(web_->requests()[0]["headers"].contains("Authorization"));
    EXPECT_NE(log().find("test.conf: secrets are sent to https URLs only"), std::string::npos)
        << log();
    EXPECT_EQ(log().find("very-secret"), std::string::npos) << log();
}

} // namespace
} // namespace thaw::fetch
