//! Saves a running container to files and brings it back, by CRIU.
#![allow(dead_code)] // Under construction.

mod rpc;
mod swrk;
