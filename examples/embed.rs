//! A responder mounted under `/ocsp` of one's own hyper server, beside other routes.
//!
//! `cargo run --example embed -- ca.pem ocsp.pem ocsp.key index.txt 127.0.0.1:8080`

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use stillgood::endpoint::Mounts;
use stillgood::responder::{IssuerSpec, Responder, ResponderSettings};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [ca, certificate, key, index, listen] = arguments.as_slice() else {
        return Err("usage: embed CA-CERTIFICATE SIGNER-CERTIFICATE SIGNER-KEY INDEX.TXT ADDRESS".into());
    };

    let responder = Responder::start(ResponderSettings::default());
    let issuer = IssuerSpec::from_files("my-ca", ca.as_ref())?.with_signer(certificate, key).with_index(index);
    responder.set_issuers(vec![issuer]);
    let ocsp = responder.service().with_mounts(Mounts::new(["/ocsp"])?);

    let listener = tokio::net::TcpListener::bind(listen.as_str()).await?;
    println!("listening on http://{}/, OCSP under /ocsp", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let ocsp = ocsp.clone();
        let routes = service_fn(move |request: Request<Incoming>| {
            let ocsp = ocsp.clone();
            async move {
                Ok::<_, Infallible>(if request.uri().path().starts_with("/ocsp") {
                    ocsp.answer(request).await
                } else {
                    Response::new(Full::new(Bytes::from_static(b"something else\n")))
                })
            }
        });
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), routes);
            if let Err(error) = connection.await {
                eprintln!("connection: {error}");
            }
        });
    }
}
