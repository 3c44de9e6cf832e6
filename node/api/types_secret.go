package api

import (
	"context"
	"time"
)

// SecretBytesMax bounds the value of a secret.
const SecretBytesMax = 64 << 10

// SecretBackend keeps values that no answer, log or event ever holds.
type SecretBackend interface {
	// PutSecret sets the value of a secret. Errors never hold it.
	PutSecret(ctx context.Context, namespace, name string, value []byte) (SecretResult, error)
	// Secrets is sorted by name.
	Secrets(ctx context.Context, namespace string, page Page) (Listing[Secret], error)
	DeleteSecret(ctx context.Context, namespace, name string) error
	SecretSites(ctx context.Context, namespace string) (SecretSites, error)
	PutSecretSites(ctx context.Context, namespace string, sites SecretSites) error
}

// Secret is what may be told of a secret.
type Secret struct {
	Name    string    `json:"name"`
	At      time.Time `json:"at" doc:"When it was set"`
	By      PeerRef   `json:"by" doc:"The peer that took it"`
	Key     uint64    `json:"key" doc:"Number of the namespace's key that it is sealed to; 0 when that is gone, and the value with it"`
	Current bool      `json:"current" doc:"That is the newest key"`
	Sides   int       `json:"sides,omitempty" doc:"More than 1 for a moment after it was set on two sides of a cut: the value that was set last counts"`
}

// SecretResult is the answer to a PUT of a secret.
type SecretResult struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	Copies    int       `json:"copies" doc:"Peers that are known to have it on disk, sealed; it spreads to all"`
	Peers     []PeerRef `json:"peers" doc:"Those peers"`
}

// SecretSites says which sites may hold the secrets of a namespace.
type SecretSites struct {
	All   bool     `json:"all,omitempty" doc:"Every site"`
	Sites []string `json:"sites,omitempty" maxItems:"1024" doc:"Only these; in a cut where two lists were made, those on both"`
}
