//! Actors: who owns what while the node runs. One folder an actor, all of them on [`runtime`].

pub mod runtime;
