//! Roles of the embedded store, over HTTP.

use cofferdam::dev_store::{DevStore, Fault, FaultRule, Role};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use object_store::aws::AwsCredential;

use super::{Answer, Client, once, start};

const DEPLOY: &str = "arn:aws:iam::123456789012:role/team/deploy";

impl Client {
    async fn form(&self, service: &str, form: &str) -> Answer {
        let headers = [(
            "content-type",
            "application/x-www-form-urlencoded; charset=utf-8",
        )];
        let form = form.to_owned();
        let answer = self.try_send_to(service, "POST", "/", &headers, form);
        answer.await.unwrap()
    }

    async fn assume(&self, more: &str) -> Answer {
        let arn = DEPLOY.replace(':', "%3A").replace('/', "%2F");
        let form =
            format!("Action=AssumeRole&RoleArn={arn}&RoleSessionName=me&Version=2011-06-15{more}");
        self.form("sts", &form).await
    }

    async fn identity(&self) -> Answer {
        self.form("sts", "Action=GetCallerIdentity&Version=2011-06-15")
            .await
    }

    /// The same client as whoever the answer says.
    fn as_assumed(&self, answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        Self {
            http: self.http.clone(),
            url: self.url.clone(),
            credential: AwsCredential {
                key_id: element(answer, "AccessKeyId"),
                secret_key: element(answer, "SecretAccessKey"),
                token: Some(element(answer, "SessionToken")),
            },
            region: self.region.clone(),
        }
    }
}

fn element(answer: &Answer, name: &str) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    let (_, rest) = text.split_once(&format!("<{name}>")).unwrap_or_default();
    rest.split('<').next().unwrap_or_default().to_owned()
}

fn refusal(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.code())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

async fn unsigned(store: &DevStore, form: String) -> Answer {
    let request = Request::post(store.url())
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::from(form))
        .unwrap();
    let client = Client::new(store);
    let (head, body) = client.http.request(request).await.unwrap().into_parts();
    Answer {
        status: head.status,
        headers: head.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

#[tokio::test]
async fn a_caller_is_told_who_it_is_if_it_signs_for_sts() {
    let (store, mut client) = start().await;
    let answer = client.identity().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "text/xml");
    assert_eq!(
        element(&answer, "Arn"),
        "arn:aws:iam::123456789012:user/cofferdam"
    );
    assert_eq!(element(&answer, "Account"), store.account_id());

    let form = "Action=GetCallerIdentity&Version=2011-06-15";
    let other_service = client.form("s3", form).await;
    assert_eq!(
        refusal(&other_service),
        refused(403, "SignatureDoesNotMatch")
    );
    let nobody = unsigned(&store, form.to_owned()).await;
    assert_eq!(refusal(&nobody), refused(403, "MissingAuthenticationToken"));
    let unknown = client
        .form("sts", "Action=GetSessionToken&Version=2011-06-15")
        .await;
    assert_eq!(refusal(&unknown), refused(400, "InvalidAction"));
    let iam = client
        .form("iam", "Action=GetUser&Version=2010-05-08")
        .await;
    assert_eq!(refusal(&iam), refused(400, "InvalidAction"));
    client.region = "eu-west-1".to_owned();
    assert_eq!(
        refusal(&client.identity().await),
        refused(403, "SignatureDoesNotMatch")
    );
    client.region = store.region().to_owned();
    client.credential.secret_key = "wrong".to_owned();
    let wrong = client.identity().await;
    assert_eq!(refusal(&wrong), refused(403, "SignatureDoesNotMatch"));
    assert!(!String::from_utf8_lossy(&wrong.body).contains(store.secret_access_key()));
    client.credential.key_id = "UNKNOWN".to_owned();
    assert_eq!(
        refusal(&client.identity().await),
        refused(403, "InvalidClientTokenId")
    );
    let operations: Vec<_> = store.requests().iter().map(|it| it.operation).collect();
    assert_eq!(operations[0], "GetCallerIdentity");
    assert_eq!(operations[3], "Unknown");
}

#[tokio::test]
async fn a_roles_keys_open_buckets_and_tables_with_their_token_and_until_they_end() {
    let (store, client) = start().await;
    store.put_object("s", "state").unwrap();
    let answer = client.assume("&DurationSeconds=900").await;
    let mut role = client.as_assumed(&answer);
    let arn = "arn:aws:sts::123456789012:assumed-role/deploy/me";
    assert_eq!(element(&answer, "Arn"), arn);
    let end: jiff::Timestamp = element(&answer, "Expiration").parse().unwrap();
    let life = end.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((800..=900).contains(&life), "{life}");
    assert_eq!(element(&role.identity().await, "Arn"), arn);

    let read = async |client: &Client| client.send("GET", "/tfstate/s", &[], "").await;
    let scan = async |client: &Client| client.try_ask("ListTables", "{}").await.unwrap();
    assert_eq!(read(&role).await.body, "state");
    assert_eq!(scan(&role).await.status, 200);
    let logged = store.requests();
    let role_id = role.credential.key_id.clone();
    assert!(role_id.starts_with("ASIA"), "{role_id}");
    assert_eq!(
        logged.last().unwrap().access_key_id.as_ref(),
        Some(&role_id)
    );
    assert_eq!(logged[0].key, DEPLOY);

    let token = role.credential.token.replace("another".to_owned());
    assert_eq!(refusal(&read(&role).await), refused(400, "InvalidToken"));
    assert_eq!(scan(&role).await.kind(), "UnrecognizedClientException");
    assert_eq!(
        refusal(&role.identity().await),
        refused(403, "InvalidClientTokenId")
    );
    role.credential.token = None;
    assert_eq!(
        refusal(&read(&role).await),
        refused(403, "InvalidAccessKeyId")
    );
    assert_eq!(scan(&role).await.kind(), "UnrecognizedClientException");
    role.credential.token = token;
    assert_eq!(read(&role).await.status, 200);

    store.end_sessions();
    assert_eq!(refusal(&read(&role).await), refused(400, "ExpiredToken"));
    assert_eq!(scan(&role).await.kind(), "ExpiredTokenException");
    assert_eq!(
        refusal(&role.identity().await),
        refused(403, "ExpiredToken")
    );
    assert_eq!(
        read(&client).await.status,
        200,
        "the store's own key never ends"
    );
}

#[tokio::test]
async fn a_session_ends_by_the_stores_own_clock() {
    let (store, client) = start().await;
    // As far off as signatures may be.
    let ahead = |seconds| FaultRule {
        operation: None,
        times: u32::MAX,
        ..once("", Fault::SkewClock { seconds })
    };
    store.inject(ahead(-800));
    let form = "&DurationSeconds=900";
    let early = client.assume(form).await;
    assert_eq!(
        refusal(&early),
        refused(403, "SignatureDoesNotMatch"),
        "5 minutes"
    );
    store.clear_faults();
    let role = client.as_assumed(&client.assume(form).await);
    store.inject(ahead(880));
    assert_eq!(
        role.send("GET", "/tfstate/s", &[], "").await.code(),
        "NoSuchKey"
    );
    store.clear_faults();
    store.inject(ahead(901));
    let late = role.send("GET", "/tfstate/s", &[], "").await;
    assert_eq!(refusal(&late), refused(403, "RequestTimeTooSkewed"));
}

#[tokio::test]
async fn what_aws_refuses_of_a_role_is_refused() {
    let (_store, client) = start().await;
    let refused_as = async |more: &str| {
        let answer = client.assume(more).await;
        (answer.code(), element(&answer, "Message"))
    };
    for (more, text) in [
        (
            "&DurationSeconds=899",
            "Member must have value greater than or equal to 900",
        ),
        (
            "&DurationSeconds=43201",
            "Member must have value less than or equal to 43200",
        ),
        (
            "&ExternalId=a",
            "Member must have length greater than or equal to 2",
        ),
        (
            "&ExternalId=a%20b",
            "Member must satisfy regular expression pattern",
        ),
        (
            "&SourceIdentity=a%2Fb",
            "Member must satisfy regular expression pattern",
        ),
    ] {
        let (code, message) = refused_as(more).await;
        assert_eq!(code, "ValidationError", "{more}");
        assert!(message.contains(text), "{more}: {message}");
    }
    assert_eq!(refused_as("&Policy=%7B").await.0, "MalformedPolicyDocument");
    assert_eq!(refused_as("&TokenCode=123456").await.0, "AccessDenied");
    for (form, code) in [
        ("RoleArn=arn&RoleSessionName=me", "ValidationError"),
        (
            "RoleArn=arn:aws:iam::123456789012:user/me&RoleSessionName=me",
            "ValidationError",
        ),
        (
            "RoleArn=arn:aws:iam::123456789012:role/a",
            "ValidationError",
        ),
        (
            "RoleArn=arn:aws:iam::123456789012:role/a&RoleSessionName=a%20b",
            "ValidationError",
        ),
        (
            "RoleArn=arn:aws:iam::210987654321:role/a&RoleSessionName=me",
            "AccessDenied",
        ),
    ] {
        let form = format!("Action=AssumeRole&Version=2011-06-15&{form}");
        assert_eq!(client.form("sts", &form).await.code(), code, "{form}");
    }

    let role = client.as_assumed(&client.assume("").await);
    let chained = role.assume("&DurationSeconds=3601").await;
    assert_eq!(chained.code(), "ValidationError");
    assert!(element(&chained, "Message").contains("role chaining"));
    assert_eq!(role.assume("&DurationSeconds=3600").await.status, 200);
}

#[tokio::test]
async fn roles_that_are_named_are_the_only_ones_and_have_their_own_rules() {
    let deploy = Role::new("team/deploy")
        .external_id("secret")
        .longest_session(3600);
    let web = Role::new("web").web_identity("the-token");
    let store = DevStore::builder()
        .role(deploy)
        .role(web)
        .start()
        .await
        .unwrap();
    let client = Client::new(&store);
    assert_eq!(
        refusal(&client.assume("").await),
        refused(403, "AccessDenied")
    );
    let wrong = client.assume("&ExternalId=other").await;
    let message = element(&wrong, "Message");
    assert!(
        message.contains("not authorized to perform: sts:AssumeRole on resource"),
        "{message}"
    );
    assert_eq!(client.assume("&ExternalId=secret").await.status, 200);
    let long = client
        .assume("&ExternalId=secret&DurationSeconds=3601")
        .await;
    assert!(element(&long, "Message").contains("MaxSessionDuration"));
    let other = "Action=AssumeRole&Version=2011-06-15&RoleSessionName=me&RoleArn=arn:aws:iam::123456789012:role/other";
    assert_eq!(client.form("sts", other).await.code(), "AccessDenied");

    let form = |role: &str, token: &str| {
        format!(
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=me\
             &RoleArn=arn:aws:iam::123456789012:role/{role}&WebIdentityToken={token}"
        )
    };
    let taken = unsigned(&store, form("web", "the-token")).await;
    let role = client.as_assumed(&taken);
    assert_eq!(
        element(&role.identity().await, "Arn"),
        "arn:aws:sts::123456789012:assumed-role/web/me"
    );
    // {"exp":1}
    for (token, role, code) in [
        ("another", "web", "InvalidIdentityToken"),
        ("e30.eyJleHAiOjF9.sig", "web", "ExpiredTokenException"),
        ("the-token", "other", "AccessDenied"),
        ("", "web", "ValidationError"),
    ] {
        let answer = unsigned(&store, form(role, token)).await;
        assert_eq!(answer.code(), code, "{token} {role}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("the-token"));
    }
}
