//! Sockets that await.
