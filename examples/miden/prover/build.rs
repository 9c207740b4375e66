//! Generates the gRPC client from Miden's own descriptor, as `miden-remote-prover-client` does. No `protoc` is needed.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .compile_fds(miden_node_proto_build::remote_prover_api_descriptor())
}
