//! The component, composed with one that refuses all that it could ask of a machine (`tests/surroundings`), in a plain
//! wasmtime with its own WASI, and none of our host.
//!
//! What leans on our host, or on more of a machine than the network, shows here.

#![allow(
    clippy::unwrap_used,
    reason = "also the helpers of tests fail by panicking"
)]

use std::path::PathBuf;
use std::process::Command;

use cofferdam::dev_store::DevStore;
use cofferdam_tests::tools::{build_component, build_program, component_path};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use wasmtime::component::{Component, Linker, ResourceAny, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

mod bindings {
    #![allow(
        missing_docs,
        unused_qualifications,
        clippy::all,
        reason = "generated code"
    )]
    wasmtime::component::bindgen!({
        path: "../wit",
        inline: "
            package cofferdam:sealed;

            world sealed {
                export cofferdam:state-backend/state-store@0.1.0;
            }
        ",
        world: "cofferdam:sealed/sealed",
        exports: { default: async },
        require_store_data_send: true,
    });
}

use bindings::Sealed;
use bindings::cofferdam::state_backend::types::{
    ErrorCode, Expectation, LockInfo, Reading, UnlockBy, WriteOptions,
};
use bindings::exports::cofferdam::state_backend::state_store::{Fence, Guest, OpenOptions};

/// A host as anybody would write it.
struct Plain {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    network: Network,
}

impl WasiView for Plain {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Plain {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.network,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

struct Network(Client<HttpConnector, WasiBody>);

type Outcome = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Network {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _body: Outcome,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Outcome), Error>> + Send> {
        let answer = self.0.request(request);
        Box::new(async move {
            let response = answer.await.map_err(|_| Error::ConnectionTerminated)?;
            let done: Outcome = Box::new(async { Ok(()) });
            let whole = |_| Error::HttpResponseIncomplete;
            Ok((
                response.map(|body| body.map_err(whole).boxed_unsync()),
                done,
            ))
        })
    }
}

/// Our component, plugged.
fn sealed() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sealed.wasm");
    let status = Command::new(build_program("cofferdam-composer"))
        .arg(build_component("cofferdam-no-surroundings"))
        .arg(component_path())
        .arg(&file)
        .status()
        .unwrap();
    assert!(status.success(), "the composer composes");
    (directory, file)
}

struct Instance {
    store: Store<Plain>,
    exports: Sealed,
}

impl Instance {
    async fn new(engine: &Engine, component: &Component) -> Self {
        let mut linker = Linker::new(engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).unwrap();
        let plain = Plain {
            // Its variables are there for the asking; the component does not ask, it has no way to.
            wasi: WasiCtx::builder()
                .env("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
                .env("AWS_SECRET_ACCESS_KEY", "environment")
                .build(),
            http: WasiHttpCtx::new(),
            table: ResourceTable::new(),
            network: Network(Client::builder(TokioExecutor::new()).build_http()),
        };
        let mut store = Store::new(engine, plain);
        let exports = Sealed::instantiate_async(&mut store, component, &linker)
            .await
            .unwrap();
        Self { store, exports }
    }

    async fn open(&mut self, block: &Value) -> ResourceAny {
        let options = OpenOptions {
            fence: Fence::Required,
            call_budget: None,
            max_state: 1 << 20,
        };
        let (store, exports) = self.parts();
        let (methods, block) = (exports.store(), block.to_string());
        let opened = methods.call_open(store, &block, options);
        opened.await.unwrap().unwrap().store
    }

    fn parts(&mut self) -> (&mut Store<Plain>, &Guest) {
        let exports = self.exports.cofferdam_state_backend_state_store();
        (&mut self.store, exports)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sealed_component_keeps_states_in_a_plain_wasmtime_and_asks_nothing_of_its_machine() {
    let (_directory, file) = sealed();
    let engine = Engine::new(&Config::new()).unwrap();
    let component = Component::from_file(&engine, file).unwrap();
    let imports = component.component_type();
    let asks = imports
        .imports(&engine)
        .any(|(name, _)| name.contains("surroundings") || name.contains("filesystem"));
    assert!(!asks, "it imports no surroundings");

    let server = DevStore::builder().start().await.unwrap();
    let mut instance = Instance::new(&engine, &component).await;
    let state = instance.open(&server.backend_block("app")).await;
    let (store, exports) = instance.parts();
    let info = LockInfo {
        id: "9db590f1-b6fe-c5f2-2678-8804f089deba".to_owned(),
        operation: "OperationTypeApply".to_owned(),
        info: String::new(),
        who: "test@plain".to_owned(),
        version: "1".to_owned(),
        created: "2026-11-23T18:00:00Z".to_owned(),
        path: String::new(),
    };
    let methods = exports.store();
    let lock = methods.call_lock(&mut *store, state, "default", &info);
    let lock = lock.await.unwrap().unwrap();
    let other = LockInfo {
        id: "other".to_owned(),
        ..info
    };
    let refused = methods.call_lock(&mut *store, state, "default", &other);
    let refused = refused.await.unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::Locked);
    let bytes = br#"{"version":4,"serial":1}"#;
    let options = WriteOptions {
        expect: Expectation::Absent,
        lock: Some(lock.clone()),
        sha256: None,
    };
    let written = methods.call_write(&mut *store, state, "default", bytes, &options);
    let revision = written.await.unwrap().unwrap();
    let fenced = methods.call_write(&mut *store, state, "default", bytes, &options);
    assert_eq!(
        fenced.await.unwrap().unwrap_err().code,
        ErrorCode::StateChanged
    );
    let read = methods.call_read(&mut *store, state, "default", None);
    match read.await.unwrap().unwrap() {
        Reading::State(read) => {
            assert_eq!(read.bytes, bytes);
            assert_eq!(read.revision.tag, revision.tag);
        }
        _ => panic!("the state is there"),
    }
    let by = UnlockBy::Held(lock);
    let unlocked = methods.call_unlock(&mut *store, state, "default", &by);
    unlocked.await.unwrap().unwrap();
    assert_eq!(server.keys(), ["app"]);

    // Without keys in the block it has none: neither the variables nor the person's files are its own.
    let mut block = server.backend_block("app");
    let arguments = block.as_object_mut().unwrap();
    arguments.remove("access_key");
    arguments.remove("secret_key");
    let state = instance.open(&block).await;
    let (store, exports) = instance.parts();
    let methods = exports.store();
    let read = methods.call_read(store, state, "default", None);
    let Err(refused) = read.await.unwrap() else {
        panic!("there are no credentials")
    };
    assert_eq!(refused.code, ErrorCode::Credentials, "{}", refused.message);
}
