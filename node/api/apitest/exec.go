package apitest

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// Exec runs one of a few commands beside an allocation: echo, cat, warn (to
// stderr), size (of the terminal), exit N, and wait (until it is killed). The
// console echoes what is typed.
func (b *Backend) Exec(ctx context.Context, id string, x api.Exec) (int, error) {
	if _, err := b.Allocation(ctx, id); err != nil {
		return 0, err
	}
	if x.Console {
		_, err := io.Copy(x.Stdout, x.Stdin)
		return 0, err
	}
	if len(x.Command) == 0 {
		return 0, fmt.Errorf("%w: there is no shell", placement.ErrInvalid)
	}
	switch rest := strings.Join(x.Command[1:], " "); x.Command[0] {
	case "echo":
		_, err := fmt.Fprintln(x.Stdout, rest)
		return 0, err
	case "warn":
		_, err := fmt.Fprintln(x.Stderr, rest)
		return 0, err
	case "cat":
		if x.Stdin == nil {
			return 0, nil
		}
		_, err := io.Copy(x.Stdout, x.Stdin)
		return 0, err
	case "size":
		_, err := fmt.Fprintf(x.Stdout, "%dx%d\n", x.Size.Rows, x.Size.Cols)
		if x.Resize != nil && err == nil {
			select {
			case size := <-x.Resize:
				_, err = fmt.Fprintf(x.Stdout, "%dx%d\n", size.Rows, size.Cols)
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		return 0, err
	case "exit":
		return strconv.Atoi(rest)
	case "wait":
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return 127, nil
}
