use std::time::Duration;

use crate::config::{ServiceLocation, Sourced};
use crate::contract::ErrorCode;
use crate::credentials::{
    ContainerAddress, ContainerArguments, ImdsArguments, Providers, RoleArguments, SsoArguments,
    Token, WebIdentityArguments,
};
use crate::platform::TransportError;
use crate::secret::Secret;

use super::recorder::{CANARY, Recorder, START, parts, refused, signing};

const ROLE: &str = "arn:aws:iam::123456789012:role/deploy";

/// What STS answers to AssumeRole; the other action's differs in the names of the first two elements.
const ROLE_ANSWER: &str = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
    <AssumedRoleUser><AssumedRoleId>AROAEXAMPLE:me</AssumedRoleId>\
    <Arn>arn:aws:sts::123456789012:assumed-role/deploy/me</Arn></AssumedRoleUser>\
    <Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>CANARY/role+key</SecretAccessKey>\
    <SessionToken>CANARY-role-token</SessionToken><Expiration>2026-11-23T02:25:24Z</Expiration></Credentials>\
    </AssumeRoleResult><ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></AssumeRoleResponse>";

/// As an AWS emulator answered Terraform.
const IDENTITY_ANSWER: &str = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
    <GetCallerIdentityResult><UserId>viykcoks0nn1193iivsp</UserId><Account>123456789012</Account>\
    <Arn>arn:aws:iam::123456789012:user/probe</Arn></GetCallerIdentityResult><ResponseMetadata>\
    <RequestId>r-2</RequestId></ResponseMetadata></GetCallerIdentityResponse>";

fn sts_error(code: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>said CANARY-web-token</Message></Error><RequestId>r-3</RequestId></ErrorResponse>"
    )
}

fn role() -> RoleArguments {
    RoleArguments {
        role_arn: ROLE.to_owned(),
        ..RoleArguments::default()
    }
}

fn web_identity(token: Token) -> WebIdentityArguments {
    WebIdentityArguments {
        role_arn: ROLE.to_owned(),
        duration_seconds: None,
        policy: None,
        policy_arns: Vec::new(),
        session_name: None,
        token,
        profile: None,
    }
}

fn inline() -> WebIdentityArguments {
    web_identity(Token::Inline(Secret::new("CANARY-web-token".to_owned())))
}

#[test]
fn a_role_is_assumed_with_all_of_its_fields_in_the_order_of_their_names() {
    let recorder = Recorder::new();
    recorder.answer(200, ROLE_ANSWER);
    let role = RoleArguments {
        role_arn: ROLE.to_owned(),
        duration_seconds: 3600,
        external_id: Some("ext:1/2".to_owned()),
        policy: Some(" {\"Version\": \"2012\"}\n".to_owned()),
        policy_arns: vec!["arn:aws:iam::aws:policy/A".to_owned(), "arn:b".to_owned()],
        session_name: Some("me@example".to_owned()),
        source_identity: Some("ann".to_owned()),
        tags: vec![
            ("env".to_owned(), "é x".to_owned()),
            ("team".to_owned(), "a&b=c".to_owned()),
        ],
        transitive_tag_keys: vec!["env".to_owned()],
        profile: None,
    };
    let found = recorder.services().assume_role(&role, &signing()).unwrap();
    assert_eq!(
        parts(&found),
        (
            "ASIAROLE",
            "CANARY/role+key",
            "CANARY-role-token",
            Some(START + 3600)
        )
    );
    assert_eq!(found.account_id.as_deref(), Some("123456789012"));
    let sent = &recorder.sent()[0];
    assert_eq!(sent.line, "POST https://sts.eu-west-1.amazonaws.com/");
    assert_eq!(
        sent.body.as_deref().unwrap().replace('&', "\n"),
        "Action=AssumeRole\n\
         DurationSeconds=3600\n\
         ExternalId=ext%3A1%2F2\n\
         Policy=%7B%22Version%22%3A+%222012%22%7D\n\
         PolicyArns.member.1.arn=arn%3Aaws%3Aiam%3A%3Aaws%3Apolicy%2FA\n\
         PolicyArns.member.2.arn=arn%3Ab\n\
         RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fdeploy\n\
         RoleSessionName=me%40example\n\
         SourceIdentity=ann\n\
         Tags.member.1.Key=env\n\
         Tags.member.1.Value=%C3%A9+x\n\
         Tags.member.2.Key=team\n\
         Tags.member.2.Value=a%26b%3Dc\n\
         TransitiveTagKeys.member.1=env\n\
         Version=2011-06-15"
    );
    assert_eq!(
        sent.header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(
        sent.header("x-amz-security-token"),
        Some("CANARY-source-token")
    );
    let authorization = sent.header("authorization").unwrap();
    assert!(
        authorization.starts_with(
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261123/eu-west-1/sts/aws4_request, \
             SignedHeaders=content-length;content-type;host;x-amz-date;x-amz-security-token, Signature="
        ),
        "{authorization}"
    );
}

#[test]
fn a_role_with_nothing_but_its_arn_has_a_quarter_of_an_hour_and_a_name_made_of_the_time() {
    let recorder = Recorder::new();
    recorder.answer(200, ROLE_ANSWER);
    let role = RoleArguments {
        profile: Some("dev".to_owned()),
        ..role()
    };
    recorder.services().assume_role(&role, &signing()).unwrap();
    let sent = &recorder.sent()[0];
    assert_eq!(sent.line, "POST https://sts.profiles.test/");
    assert_eq!(
        sent.body.as_deref(),
        Some(
            "Action=AssumeRole&DurationSeconds=900&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fdeploy\
             &RoleSessionName=aws-go-sdk-1795397124000000000&Version=2011-06-15"
        )
    );
}

#[test]
fn a_web_identity_token_is_sent_unsigned_and_its_file_read_anew_each_time() {
    let recorder = Recorder::new();
    let role = web_identity(Token::File("/token".to_owned()));
    for (content, sent) in [
        ("CANARY.first", "CANARY.first"),
        ("CANARY/2\n", "CANARY%2F2%0A"),
    ] {
        recorder.file("/token", content);
        recorder.answer(
            200,
            &ROLE_ANSWER.replace("AssumeRole", "AssumeRoleWithWebIdentity"),
        );
        let services = recorder.services();
        let found = services.assume_role_with_web_identity(&role).unwrap();
        assert_eq!(parts(&found).0, "ASIAROLE");
        let request = &recorder.sent()[0];
        assert_eq!(
            request.body,
            Some(format!(
                "Action=AssumeRoleWithWebIdentity&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fdeploy\
                 &RoleSessionName=1795397124000000000&Version=2011-06-15&WebIdentityToken={sent}"
            ))
        );
        assert_eq!(request.header("authorization"), None);
    }
    recorder.files.borrow_mut().clear();
    let error = refused(recorder.services().assume_role_with_web_identity(&role));
    assert!(error.message.contains("/token"), "{}", error.message);
}

#[test]
fn the_identity_is_the_arn_and_the_request_is_terraforms() {
    let recorder = Recorder::new();
    recorder.answer(200, IDENTITY_ANSWER);
    let identity = recorder.services().caller_identity(&signing()).unwrap();
    assert_eq!(identity.arn, "arn:aws:iam::123456789012:user/probe");
    let body = recorder.sent()[0].body.clone();
    assert_eq!(
        body.as_deref(),
        Some("Action=GetCallerIdentity&Version=2011-06-15")
    );
    for answer in [
        "",
        "<html/>",
        "<GetCallerIdentityResponse/>",
        &IDENTITY_ANSWER.replace("arn:aws:iam", "iam"),
    ] {
        recorder.answer(200, answer);
        let error = refused(recorder.services().caller_identity(&signing()));
        assert!(error.message.contains("usable ARN"), "{}", error.message);
    }
}

#[test]
fn what_sts_refuses_says_what_to_do() {
    let denied = ErrorCode::AccessDenied;
    let invalid = ErrorCode::InvalidArgument;
    let credentials = ErrorCode::Credentials;
    for (code, expected, advice) in [
        ("AccessDenied", denied, "trust policy"),
        ("ExpiredToken", credentials, "renew them"),
        ("InvalidClientTokenId", credentials, "correct them"),
        ("MalformedPolicyDocument", invalid, "argument policy"),
        ("PackedPolicyTooLarge", invalid, "shorten them"),
        ("RegionDisabledException", credentials, "sts_region"),
        ("Strange", credentials, "403 Strange"),
    ] {
        let recorder = Recorder::new();
        recorder.answer(403, &sts_error(code).replace(CANARY, ""));
        let error = refused(recorder.services().assume_role(&role(), &signing()));
        assert_eq!(recorder.sent().len(), 1, "{code}");
        assert_eq!(error.code, expected, "{code}");
        assert!(error.message.contains(advice), "{}", error.message);
        assert!(
            error.message.contains("sts.eu-west-1.amazonaws.com"),
            "{}",
            error.message
        );
        let fact = |name: &str| error.facts.iter().find(|(known, _)| known == name);
        assert_eq!(fact("store-code").unwrap().1, code);
        assert_eq!(fact("request-id").unwrap().1, "r-3");
        assert_eq!(
            fact("resource").map(|(_, role)| role.as_str()),
            (expected == denied).then_some(ROLE)
        );
    }
}

#[test]
fn a_token_that_an_error_repeats_is_not_shown() {
    let recorder = Recorder::new();
    recorder.answer(400, &sts_error("ExpiredTokenException"));
    let error = refused(recorder.services().assume_role_with_web_identity(&inline()));
    assert!(error.message.contains("said …"), "{}", error.message);
    assert!(error.message.contains("get a new one"), "{}", error.message);
}

#[test]
fn an_identity_provider_that_falters_is_asked_again_for_web_identities_only() {
    for code in ["InvalidIdentityToken", "IDPCommunicationError"] {
        let recorder = Recorder::new();
        let error = sts_error(code);
        recorder.answer(400, &error).answer(400, &error);
        recorder.answer(200, ROLE_ANSWER);
        let services = recorder.services();
        services.assume_role_with_web_identity(&inline()).unwrap();
        assert_eq!(recorder.sent().len(), 3);
        recorder.answer(400, &error.replace(CANARY, ""));
        refused(services.assume_role(&role(), &signing()));
        assert_eq!(recorder.sent().len(), 1);
    }
}

#[test]
fn a_request_is_repeated_as_often_as_configured_and_no_longer_than_the_call_may_take() {
    let recorder = Recorder::new();
    for _ in 0..3 {
        recorder.answer(503, &sts_error("Throttling"));
    }
    let error = refused(recorder.services().assume_role_with_web_identity(&inline()));
    assert_eq!(error.code, ErrorCode::Throttled);
    assert!(error.retryable);
    assert!(error.message.ends_with("(3 attempts)"), "{}", error.message);
    assert_eq!(recorder.sent().len(), 3);

    let recorder = Recorder::new();
    recorder.fail(TransportError::Broken("reset".to_owned()));
    let services = super::Services {
        deadline: Some(Duration::from_millis(10)),
        ..recorder.services()
    };
    let error = refused(services.caller_identity(&signing()));
    assert_eq!(
        (error.code, error.retryable),
        (ErrorCode::Unreachable, true)
    );
    assert_eq!(recorder.slept.get(), Duration::ZERO);
}

#[test]
fn a_wrong_clock_is_corrected_by_that_of_sts() {
    let recorder = Recorder::new();
    let date = [("date", "Mon, 23 Nov 2026 02:25:24 GMT")];
    recorder.answer_with(403, &date, &sts_error("SignatureDoesNotMatch"));
    recorder.answer(200, IDENTITY_ANSWER);
    recorder.services().caller_identity(&signing()).unwrap();
    let sent = recorder.sent();
    assert_eq!(sent[0].header("x-amz-date"), Some("20261123T012524Z"));
    assert_eq!(sent[1].header("x-amz-date"), Some("20261123T022524Z"));
}

#[test]
fn a_clock_that_sts_never_agrees_with_is_no_wrong_key() {
    const REFUSED: &str =
        "<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code></Error></ErrorResponse>";
    let recorder = Recorder::new();
    for date in [
        "Mon, 23 Nov 2026 05:25:24 GMT",
        "Mon, 23 Nov 2026 09:25:24 GMT",
    ] {
        recorder.answer_with(403, &[("date", date)], REFUSED);
    }
    let error = refused(recorder.services().caller_identity(&signing()));
    assert_eq!(error.code, ErrorCode::Other);
    assert!(error.message.contains("The clock of"), "{}", error.message);
    assert_eq!(recorder.sent().len(), 2);
}

#[test]
fn a_host_that_denies_sts_is_named_with_the_rule_that_is_missing() {
    let recorder = Recorder::new();
    recorder.fail(TransportError::Denied("no rule".to_owned()));
    let error = refused(recorder.services().caller_identity(&signing()));
    let rule = ("rule", "POST https://sts.eu-west-1.amazonaws.com");
    assert!(
        error
            .facts
            .contains(&(rule.0.to_owned(), rule.1.to_owned())),
        "{:?}",
        error.facts
    );
    assert!(!error.retryable);
}

#[test]
fn the_account_is_looked_for_in_three_places() {
    let user = "<GetUserResponse><GetUserResult><User><Arn>arn:aws:iam::1:user/u</Arn></User></GetUserResult>\
                </GetUserResponse>";
    let roles = "<ListRolesResponse><ListRolesResult><Roles><member><Arn>arn:aws:iam::3:role/r</Arn></member>\
                 </Roles></ListRolesResult></ListRolesResponse>";
    let denied = sts_error("AccessDenied");

    let recorder = Recorder::new();
    let services = recorder.services();
    recorder.answer(200, user);
    assert_eq!(
        services.account(&signing(), None).unwrap().arn,
        "arn:aws:iam::1:user/u"
    );
    let sent = &recorder.sent()[0];
    assert_eq!(sent.line, "POST https://iam.amazonaws.com/");
    assert_eq!(
        sent.body.as_deref(),
        Some("Action=GetUser&Version=2010-05-08")
    );
    let authorization = sent.header("authorization").unwrap();
    assert!(authorization.contains("/us-east-1/iam/"), "{authorization}");

    recorder
        .answer(403, &denied)
        .answer(403, &denied)
        .answer(200, roles);
    assert_eq!(
        services.account(&signing(), None).unwrap().arn,
        "arn:aws:iam::3:role/r"
    );
    assert_eq!(
        recorder.sent()[2].body.as_deref(),
        Some("Action=ListRoles&MaxItems=1&Version=2010-05-08")
    );

    recorder
        .answer(403, &denied.replace(CANARY, ""))
        .answer(403, &denied.replace(CANARY, ""));
    recorder.answer(404, "");
    let error = refused(services.account(&signing(), None));
    let ways = ["iam:GetUser", "sts:GetCallerIdentity", "iam:ListRoles"];
    let told = ways.map(|way| error.message.contains(&format!("via {way}:")));
    assert_eq!(told, [false, true, true], "{}", error.message);

    recorder.answer(200, "token");
    recorder.answer(
        200,
        "{\"Code\":\"Success\",\"InstanceProfileArn\":\"arn:aws:iam::4:instance-profile/p\"}",
    );
    assert_eq!(
        services.account(&signing(), Some(&imds())).unwrap().arn,
        "arn:aws:iam::4:instance-profile/p"
    );
}

fn sso() -> SsoArguments {
    let place = |authority: &str| ServiceLocation {
        scheme: "https".to_owned(),
        authority: authority.to_owned(),
        path: "/".to_owned(),
        region: "eu-west-1".to_owned(),
    };
    SsoArguments {
        profile: "dev".to_owned(),
        session: Some("s".to_owned()),
        start_url: "https://example.awsapps.com/start#/".to_owned(),
        account_id: "123456789012".to_owned(),
        role_name: "Admin&x".to_owned(),
        cache_directory: "/home/ann/.aws/sso/cache".to_owned(),
        portal: Sourced::argument("endpoints.sso", place("portal.test")),
        oidc: place("oidc.test"),
    }
}

const SSO_ANSWER: &str = "{\"roleCredentials\":{\"accessKeyId\":\"ASIASSO\",\"secretAccessKey\":\"CANARY-key\",\
    \"sessionToken\":\"CANARY-token\",\"expiration\":1795400724999}}";

fn cached(expires_at: &str) -> String {
    format!(
        "{{\"startUrl\":\"https://example.awsapps.com/start#/\",\"region\":\"eu-west-1\",\
         \"accessToken\":\"CANARY-old\",\"expiresAt\":\"{expires_at}\",\"clientId\":\"client\",\
         \"clientSecret\":\"CANARY-client\",\"refreshToken\":\"CANARY-refresh\",\
         \"registrationExpiresAt\":\"2026-12-01T00:00:00Z\",\"other\":[1,{{\"a\":null}}]}}"
    )
}

/// The AWS CLI names the file by the SHA-1 of the session's name.
fn cache_of(name: &str) -> String {
    use sha1::{Digest, Sha1};
    let name = crate::aws::sign::hexadecimal(&Sha1::digest(name));
    format!("/home/ann/.aws/sso/cache/{name}.json")
}

#[test]
fn a_good_sso_token_is_used_as_it_is() {
    let recorder = Recorder::new();
    recorder.file(&cache_of("s"), &cached("2026-11-23T01:25:24Z"));
    recorder.answer(200, SSO_ANSWER);
    let found = recorder.services().sso(&sso()).unwrap();
    assert_eq!(
        parts(&found),
        ("ASIASSO", "CANARY-key", "CANARY-token", Some(START + 3600))
    );
    assert_eq!(found.account_id.as_deref(), Some("123456789012"));
    let sent = &recorder.sent()[0];
    assert_eq!(
        sent.line,
        "GET https://portal.test/federation/credentials?account_id=123456789012&role_name=Admin%26x"
    );
    assert_eq!(sent.header("x-amz-sso_bearer_token"), Some("CANARY-old"));
    assert_eq!(sent.header("authorization"), None);
}

#[test]
fn an_expired_sso_token_is_refreshed_and_written_back_with_all_that_stood_beside_it() {
    let recorder = Recorder::new();
    recorder.file(&cache_of("s"), &cached("2026-11-23T02:25:23+01:00"));
    recorder.answer(
        200,
        "{\"accessToken\":\"CANARY-new\",\"expiresIn\":28800,\"refreshToken\":\"CANARY-next\",\"tokenType\":\"Bearer\"}",
    );
    recorder.answer(200, SSO_ANSWER);
    recorder.services().sso(&sso()).unwrap();
    let sent = recorder.sent();
    assert_eq!(sent[0].line, "POST https://oidc.test/token");
    assert_eq!(sent[0].header("authorization"), None);
    assert_eq!(
        sent[0].body.as_deref(),
        Some(
            "{\"clientId\":\"client\",\"clientSecret\":\"CANARY-client\",\"grantType\":\"refresh_token\",\
             \"refreshToken\":\"CANARY-refresh\"}"
        )
    );
    assert_eq!(sent[1].header("x-amz-sso_bearer_token"), Some("CANARY-new"));
    let expected = cached("2026-11-23T09:25:24Z")
        .replace("CANARY-old", "CANARY-new")
        .replace("CANARY-refresh", "CANARY-next");
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(
        json(&recorder.files.borrow()[&cache_of("s")]),
        json(&expected)
    );
    assert!(recorder.reports.borrow().is_empty());
}

#[test]
fn a_refreshed_sso_token_that_cannot_be_kept_is_used_and_reported() {
    let recorder = Recorder::new();
    recorder.file(&cache_of("s"), &cached("2020-01-01T00:00:00Z"));
    recorder.is_read_only.set(true);
    recorder.answer(200, "{\"accessToken\":\"CANARY-new\",\"expiresIn\":1}");
    recorder.answer(200, SSO_ANSWER);
    recorder.services().sso(&sso()).unwrap();
    assert_eq!(recorder.sent().len(), 2);
    let reports = recorder.reports.borrow();
    assert!(reports[0].detail.contains(&cache_of("s")), "{reports:?}");
    assert!(!format!("{reports:?}").contains(CANARY));
}

#[test]
fn an_sso_token_that_somebody_else_refreshed_meanwhile_is_used() {
    let recorder = Recorder::new();
    let theirs = cached("2026-11-23T09:00:00Z").replace("CANARY-old", "CANARY-theirs");
    recorder.arriving.set(Some((cache_of("s"), theirs)));
    recorder.file(&cache_of("s"), &cached("2020-01-01T00:00:00Z"));
    recorder.answer(
        400,
        "{\"error\":\"invalid_grant\",\"error_description\":\"Invalid refresh token CANARY-refresh\"}",
    );
    recorder.answer(200, SSO_ANSWER);
    recorder.services().sso(&sso()).unwrap();
    let sent = recorder.sent();
    assert_eq!(
        sent[1].header("x-amz-sso_bearer_token"),
        Some("CANARY-theirs")
    );
}

#[test]
fn an_sso_login_that_has_ended_says_how_to_log_in() {
    let good = cached("2026-11-23T09:00:00Z");
    let old = cached("2020-01-01T00:00:00Z");
    let answers: &[(u16, &str)] = &[(
        400,
        "{\"error\":\"invalid_grant\",\"error_description\":\"no CANARY-refresh\"}",
    )];
    let unauthorized: &[(u16, &str)] =
        &[(401, "{\"message\":\"Session token CANARY-old not found\"}")];
    for (file, answers, why) in [
        (None, &[][..], "there is no cached SSO token"),
        (Some("{".to_owned()), &[], "is no JSON object"),
        (Some("[\"CANARY\"]".to_owned()), &[], "is no JSON object"),
        (Some(good.replace("expiresAt", "x")), &[], "and expiresAt"),
        (Some(cached("CANARY")), &[], "no valid expiresAt"),
        (
            Some(old.replace("CANARY-refresh", "")),
            &[],
            "cannot be refreshed",
        ),
        (
            Some(old.replace("clientSecret", "x")),
            &[],
            "cannot be refreshed",
        ),
        (
            Some(old.replace("2026-12-01", "2026-11-01")),
            &[],
            "cannot be refreshed",
        ),
        (Some(old), answers, "invalid_grant, \"no …\""),
        (Some(good), unauthorized, "Session token … not found"),
    ] {
        let recorder = Recorder::new();
        if let Some(file) = &file {
            recorder.file(&cache_of("s"), file);
        }
        for (status, body) in answers {
            recorder.answer(*status, body);
        }
        let error = refused(recorder.services().sso(&sso()));
        assert!(error.message.contains(why), "{}", error.message);
        assert!(
            error.message.contains("aws sso login --sso-session s"),
            "{}",
            error.message
        );
        assert_eq!(recorder.sent().len(), answers.len());
    }
}

#[test]
fn an_sso_profile_without_a_session_is_never_refreshed() {
    let recorder = Recorder::new();
    let legacy = SsoArguments {
        session: None,
        ..sso()
    };
    let path = cache_of("https://example.awsapps.com/start#/");
    recorder.file(&path, &cached("2026-11-23T01:25:23Z"));
    let error = refused(recorder.services().sso(&legacy));
    assert!(
        error
            .message
            .ends_with("expired or is invalid: log in with \"aws sso login --profile dev\""),
        "{}",
        error.message
    );
    recorder.file(&path, &cached("2026-11-23T01:25:25Z"));
    recorder.answer(200, SSO_ANSWER);
    recorder.services().sso(&legacy).unwrap();
    assert_eq!(recorder.sent().len(), 1);
}

#[test]
fn the_name_of_the_cache_is_the_one_that_the_aws_cli_uses() {
    let recorder = Recorder::new();
    let session = SsoArguments {
        session: Some("my-sso".to_owned()),
        ..sso()
    };
    let sha1 = "0ad374308c5a4e22f723adf10145eafad7c4031c";
    let path = format!("/home/ann/.aws/sso/cache/{sha1}.json");
    recorder.file(&path, &cached("2026-11-23T09:00:00Z"));
    recorder.answer(200, SSO_ANSWER);
    recorder.services().sso(&session).unwrap();
}

const CONTAINER_ANSWER: &str = "{\"RoleArn\":\"arn\",\"AccessKeyId\":\"ASIATASK\",\"SecretAccessKey\":\"CANARY-key\",\
    \"Token\":\"CANARY-token\",\"Expiration\":\"2026-11-23T02:25:24Z\",\"AccountId\":\"123456789012\"}";

fn container(address: ContainerAddress) -> ContainerArguments {
    ContainerArguments {
        address,
        token: None,
        token_file: None,
    }
}

#[test]
fn a_task_of_ecs_is_asked_at_its_own_address() {
    let recorder = Recorder::new();
    recorder.answer(200, CONTAINER_ANSWER);
    let task = container(ContainerAddress::Relative("/v2/credentials/a?b".to_owned()));
    let found = recorder.services().container(&task).unwrap();
    assert_eq!(
        parts(&found),
        ("ASIATASK", "CANARY-key", "CANARY-token", Some(START + 3600))
    );
    assert_eq!(found.account_id.as_deref(), Some("123456789012"));
    let sent = &recorder.sent()[0];
    assert_eq!(sent.line, "GET http://169.254.170.2/v2/credentials/a?b");
    assert_eq!(sent.header("accept"), Some("application/json"));
    assert_eq!(sent.header("authorization"), None);
}

#[test]
fn the_token_of_a_pod_is_sent_verbatim_and_its_file_read_anew_each_time() {
    let recorder = Recorder::new();
    let url = "http://169.254.170.23/v1/credentials/".to_owned();
    let pod = ContainerArguments {
        address: ContainerAddress::Full(url.clone()),
        token: Some(Secret::new("CANARY-variable".to_owned())),
        token_file: Some("/pod".to_owned()),
    };
    for token in ["CANARY-1", "CANARY-2"] {
        recorder.file("/pod", token);
        recorder.answer(
            200,
            "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"CANARY\"}",
        );
        let found = recorder.services().container(&pod).unwrap();
        assert_eq!(parts(&found), ("A", "CANARY", "", None));
        let sent = &recorder.sent()[0];
        assert_eq!(sent.line, format!("GET {url}"));
        assert_eq!(sent.header("authorization"), Some(token));
    }
    for (token, why) in [
        ("CANARY\n", "newline"),
        ("CANARY\r\nx-evil: 1", "newline"),
        ("CANARYé", "header"),
    ] {
        recorder.file("/pod", token);
        let error = refused(recorder.services().container(&pod));
        assert!(error.message.contains(why), "{}", error.message);
    }
    recorder.files.borrow_mut().clear();
    let error = refused(recorder.services().container(&pod));
    assert!(error.message.contains("/pod"), "{}", error.message);
    assert!(recorder.sent().is_empty());
}

#[test]
fn a_containers_token_goes_over_plain_http_to_a_few_hosts_only() {
    for (url, sent) in [
        ("http://127.0.0.1:8080/c", "http://127.0.0.1:8080/c"),
        ("http://127.9.9.9", "http://127.9.9.9/"),
        ("http://[::1]:80/c#x", "http://[::1]/c"),
        ("http://localhost/c/", "http://localhost/c/"),
        ("http://169.254.170.2/c", "http://169.254.170.2/c"),
        ("http://[fd00:ec2::23]/c", "http://[fd00:ec2::23]/c"),
        ("https://any.example?x=/@", "https://any.example/?x=/@"),
    ] {
        let recorder = Recorder::new();
        recorder.answer(200, CONTAINER_ANSWER);
        let arguments = container(ContainerAddress::Full(url.to_owned()));
        recorder.services().container(&arguments).unwrap();
        assert_eq!(recorder.lines(), [format!("GET {sent}")]);
    }
    for url in [
        "http://169.254.169.254/c",
        "http://169.254.170.3/c",
        "http://example.com/c",
        "http://localhost.example/c",
        "http://127.0.0.1.example/c",
        "http://[fd00:ec2::254]/c",
        "http://[::ffff:127.0.0.1]/c",
        "http://user@localhost/c",
        "http://localhost@example.com/c",
        "ftp://localhost/c",
        "localhost/c",
        "https://any.example/a b",
        "",
    ] {
        let recorder = Recorder::new();
        let arguments = container(ContainerAddress::Full(url.to_owned()));
        let error = refused(recorder.services().container(&arguments));
        assert!(recorder.sent().is_empty(), "{url}");
        assert!(error.message.contains("FULL_URI"), "{}", error.message);
    }
    let recorder = Recorder::new();
    let outside = container(ContainerAddress::Relative(".example/c".to_owned()));
    refused(recorder.services().container(&outside));
    assert!(recorder.sent().is_empty());
}

#[test]
fn a_container_that_falters_is_asked_again_and_one_that_refuses_is_quoted() {
    let recorder = Recorder::new();
    let arguments = ContainerArguments {
        token: Some(Secret::new("Bearer CANARY-t".to_owned())),
        ..container(ContainerAddress::Relative("/c".to_owned()))
    };
    recorder
        .answer(429, "")
        .fail(TransportError::NotConnected("refused".to_owned()));
    recorder.answer(200, CONTAINER_ANSWER);
    recorder.services().container(&arguments).unwrap();
    assert_eq!(recorder.sent().len(), 3);
    recorder.answer(
        403,
        "{\"code\":\"AccessDenied\",\"message\":\"not with CANARY-t\"}",
    );
    let error = refused(recorder.services().container(&arguments));
    assert!(
        error.message.contains("403 AccessDenied, \"not with …\""),
        "{}",
        error.message
    );
    recorder.answer(200, "{\"AccessKeyId\":\"A\",\"Token\":\"CANARY\"}");
    let error = refused(recorder.services().container(&arguments));
    assert!(error.message.ends_with("usable secret access key"));
}

const IMDS: &str = "http://169.254.169.254/latest";
const TTL: [(&str, &str); 1] = [("x-aws-ec2-metadata-token-ttl-seconds", "300")];

fn imds() -> ImdsArguments {
    ImdsArguments {
        endpoint: "http://169.254.169.254".to_owned(),
        is_disabled: false,
        is_v1_disabled: false,
    }
}

fn instance_answer(expiration: &str) -> String {
    format!(
        "{{\"Code\":\"success\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"ASIAEC2\",\"SecretAccessKey\":\"CANARY-key\",\
         \"Token\":\"CANARY-token\",\"Expiration\":\"{expiration}\"}}"
    )
}

#[test]
fn an_instance_is_asked_with_a_session_token_that_is_kept_for_its_life() {
    let recorder = Recorder::new();
    let services = recorder.services();
    recorder
        .answer_with(200, &TTL, "CANARY-session")
        .answer(200, "my-role\nother\n");
    recorder.answer(200, &instance_answer("2026-11-23T07:25:24Z"));
    let found = services.imds(&imds()).unwrap();
    // No later than an hour from now.
    assert_eq!(
        parts(&found),
        ("ASIAEC2", "CANARY-key", "CANARY-token", Some(START + 3600))
    );
    let sent = recorder.sent();
    let lines: Vec<_> = sent.iter().map(|sent| sent.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            format!("PUT {IMDS}/api/token"),
            format!("GET {IMDS}/meta-data/iam/security-credentials/"),
            format!("GET {IMDS}/meta-data/iam/security-credentials/my-role"),
        ]
    );
    assert_eq!(
        sent[0].header("x-aws-ec2-metadata-token-ttl-seconds"),
        Some("300")
    );
    assert_eq!(sent[0].header("content-length"), Some("0"));
    for request in &sent[1..] {
        let token = request.header("x-aws-ec2-metadata-token");
        assert_eq!(token, Some("CANARY-session"));
    }
    for (seconds, requests) in [(299, 2), (1, 3)] {
        recorder.pass(seconds);
        if requests == 3 {
            recorder.answer_with(200, &TTL, "CANARY-session");
        }
        recorder
            .answer(200, "my-role")
            .answer(200, &instance_answer("2026-11-23T02:00:00Z"));
        let found = services.imds(&imds()).unwrap();
        assert_eq!(found.expires_at, Some(1_795_399_200));
        assert_eq!(recorder.sent().len(), requests);
    }
}

#[test]
fn a_machine_without_a_metadata_service_is_not_kept_waiting() {
    let recorder = Recorder::new();
    let silence = TransportError::TimedOut("connecting".to_owned());
    recorder.fail(silence.clone()).fail(silence);
    let error = refused(recorder.services().imds(&imds()));
    assert!(
        error.message.starts_with("no EC2 IMDS role found, "),
        "{}",
        error.message
    );
    assert_eq!(recorder.sent().len(), 2);
    assert_eq!(recorder.slept.get(), Duration::ZERO);
}

#[test]
fn a_metadata_service_that_somebody_names_is_asked_again_within_five_seconds() {
    let recorder = Recorder::new();
    recorder.latency.set(Duration::from_millis(700));
    let named = ImdsArguments {
        endpoint: "http://127.0.0.1:1338/prefix".to_owned(),
        ..imds()
    };
    for _ in 0..4 {
        recorder.fail(TransportError::TimedOut("connecting".to_owned()));
    }
    refused(recorder.services().imds(&named));
    assert!(recorder.elapsed.get() < Duration::from_millis(5700));
    let lines = recorder.lines();
    assert_eq!(
        lines[0],
        "PUT http://127.0.0.1:1338/prefix/latest/api/token"
    );
}

#[test]
fn a_service_without_session_tokens_is_asked_as_before_unless_that_is_forbidden() {
    let strict = ImdsArguments {
        is_v1_disabled: true,
        ..imds()
    };
    for (status, falls_back, tries) in [
        (400, false, 1),
        (403, true, 1),
        (404, true, 1),
        (405, true, 1),
        (500, true, 3),
    ] {
        let recorder = Recorder::new();
        let services = recorder.services();
        let script = |expected: bool| {
            for _ in 0..tries {
                recorder.answer(status, "");
            }
            if expected && status == 500 {
                recorder.answer(200, "my-role");
                for _ in 0..tries {
                    recorder.answer(status, "");
                }
                recorder.answer(200, &instance_answer("2026-11-23T02:00:00Z"));
            } else if expected {
                recorder.answer(200, "my-role");
                recorder.answer(200, &instance_answer("2026-11-23T02:00:00Z"));
            }
        };
        script(falls_back);
        let found = services.imds(&imds());
        assert_eq!(found.is_ok(), falls_back, "{status}");
        for request in recorder.sent() {
            assert_eq!(request.header("x-aws-ec2-metadata-token"), None);
        }
        let recorder = Recorder::new();
        for _ in 0..tries {
            recorder.answer(status, "");
        }
        let error = refused(recorder.services().imds(&strict));
        assert!(
            error.message.contains("failed to get API token"),
            "{}",
            error.message
        );
        assert_eq!(recorder.sent().len(), tries);
    }
}

#[test]
fn a_service_that_wants_session_tokens_again_gets_one() {
    let recorder = Recorder::new();
    recorder.answer(404, "").answer(401, "");
    recorder
        .answer_with(200, &TTL, "CANARY-session")
        .answer(200, "my-role");
    recorder.answer(200, &instance_answer("2026-11-23T02:00:00Z"));
    recorder.services().imds(&imds()).unwrap();
    let sent = recorder.sent();
    assert_eq!(
        sent[3].header("x-aws-ec2-metadata-token"),
        Some("CANARY-session")
    );
}

#[test]
fn a_metadata_service_that_is_switched_off_is_not_asked() {
    let recorder = Recorder::new();
    let disabled = ImdsArguments {
        is_disabled: true,
        ..imds()
    };
    let error = refused(recorder.services().imds(&disabled));
    assert!(
        error.message.contains("AWS_EC2_METADATA_DISABLED"),
        "{}",
        error.message
    );
    assert!(recorder.sent().is_empty());
}

#[test]
fn an_instance_without_usable_credentials_says_why() {
    for (roles, answer, why) in [
        ("", None, "empty EC2 IMDS role list"),
        ("<html>no</html>", None, "no name of a role"),
        ("../../x", None, "no name of a role"),
        (
            "r",
            Some("{\"Code\":\"AssumeRoleUnauthorizedAccess\",\"Message\":\"no trust\"}"),
            "AssumeRoleUnauthorizedAccess: no trust",
        ),
        ("r", Some("CANARY"), "the answer is no JSON"),
        (
            "r",
            Some("{\"Code\":\"Success\"}"),
            "no usable access key id",
        ),
        (
            "r",
            Some("{\"Code\":\"Success\",\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"CANARY\"}"),
            "no expiration",
        ),
    ] {
        let recorder = Recorder::new();
        recorder.answer(200, "token").answer(200, roles);
        if let Some(answer) = answer {
            recorder.answer(200, answer);
        }
        let error = refused(recorder.services().imds(&imds()));
        assert!(error.message.contains(why), "{}", error.message);
        recorder.sent();
    }
}
