mod bodies;
mod codec;
