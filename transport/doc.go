// Package transport is peers reaching each other over QUIC.
package transport
