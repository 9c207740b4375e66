//! Runs a real nginx or HAProxy on a configuration of `examples/deploy/`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Where a program is, or a line that says that the test was skipped.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let found = std::env::var_os("PATH")
        .into_iter()
        .flat_map(|paths| std::env::split_paths(&paths).collect::<Vec<_>>())
        .chain([PathBuf::from("/usr/sbin")])
        .map(|dir| dir.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        println!("skipped: {name} is not installed");
    }
    found
}

/// A running proxy with a directory of its own. Both go when it is dropped.
pub(crate) struct Proxy {
    child: Child,
    dir: PathBuf,
    pub(crate) port: u16,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // nginx ends its workers when it is told to, and leaves them behind when it is killed.
        // By the shell's own `kill`: a program of that name is not on every machine.
        let told = Command::new("sh").arg("-c").arg(format!("kill -s TERM {}", self.child.id())).status();
        if !told.is_ok_and(|status| status.success()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        if std::thread::panicking()
            && let Ok(log) = std::fs::read_to_string(self.dir.join("error.log"))
        {
            println!("{}", log.lines().rev().take(20).collect::<Vec<_>>().join("\n"));
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Proxy {
    /// Fills in a configuration of `examples/deploy`, with the ports of its backends, and starts the program on it.
    pub(crate) async fn start(name: &str, config: &str, backends: &[u16]) -> Option<Self> {
        let program = program(name)?;
        let modules = Path::new("/usr/lib/nginx/modules");
        if config == "nginx-passthrough.conf" && !modules.join("ngx_stream_module.so").is_file() {
            println!("skipped: nginx has no stream module (Debian: libnginx-mod-stream)");
            return None;
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = std::env::temp_dir().join(format!("tower-attest-{config}-{port}"));
        std::fs::create_dir_all(&dir).unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) =
            (pem("CERTIFICATE", made.cert.der()), pem("PRIVATE KEY", &made.signing_key.serialize_der()));
        std::fs::write(dir.join("cert.pem"), &certificate).unwrap();
        std::fs::write(dir.join("key.pem"), &key).unwrap();
        std::fs::write(dir.join("both.pem"), certificate + &key).unwrap();

        let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/deploy").join(config);
        let mut text = std::fs::read_to_string(template).unwrap();
        text = text.replace("${PORT}", &port.to_string()).replace("${DIR}", dir.to_str().unwrap());
        text = text.replace("${MODULES}", modules.to_str().unwrap());
        for (number, backend) in backends.iter().enumerate() {
            text = text.replace(&format!("${{BACKEND_{}}}", number + 1), &backend.to_string());
        }
        let file = dir.join(config);
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(program);
        match name {
            "nginx" => command.arg("-e").arg(dir.join("error.log")).arg("-c").arg(&file),
            _ => command.arg("-db").arg("-f").arg(&file),
        };
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut proxy = Self { child, dir, port };
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(proxy.child.try_wait().unwrap().is_none(), "{name} ended: see its error log");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Some(proxy)
    }

    pub(crate) fn uri(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// A store with the certificate that it was given.
    pub(crate) fn roots(&self) -> rustls::RootCertStore {
        use rustls::pki_types::pem::PemObject;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(rustls::pki_types::CertificateDer::from_pem_file(self.dir.join("cert.pem")).unwrap()).unwrap();
        roots
    }
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}
