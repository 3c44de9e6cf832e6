package node

import (
	"context"
	"io"
)

// Backup writes what the store holds.
func (n backend) Backup(ctx context.Context, w io.Writer) error {
	return storeError(n.store.Backup(ctx, w))
}
