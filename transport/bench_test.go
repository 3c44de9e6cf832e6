package transport

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/transport/trust"
)

// loopback is two transports over real UDP.
func loopback(b *testing.B) (one, two *Transport) {
	b.Helper()
	root := newIdentity(b)
	var all []*Transport
	var addrs []string
	set := trust.NewSet(root.Public())
	for i := range 2 {
		id := newIdentity(b)
		if _, err := set.Add(admission(b, root, id, fmt.Sprint(i))); err != nil {
			b.Fatal(err)
		}
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			b.Fatal(err)
		}
		t, err := New(Config{Identity: id, Trust: set, Conn: conn})
		if err != nil {
			b.Fatal(err)
		}
		t.Handle("echo", func(_ context.Context, _ string, request []byte) ([]byte, error) { return request, nil })
		t.HandleStream("sink", func(_ context.Context, _ string, s *Stream) error {
			if _, err := io.Copy(io.Discard, s); err != nil {
				return err
			}
			_, err := s.Write([]byte{1})
			return err
		})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- t.Run(ctx) }()
		<-t.ready
		b.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				b.Error(err)
			}
			conn.Close()
		})
		all, addrs = append(all, t), append(addrs, conn.LocalAddr().String())
	}
	all[0].Learn(all[1].ID(), addrs[1])
	all[1].Learn(all[0].ID(), addrs[0])
	if _, err := all[0].Call(b.Context(), all[1].ID(), "echo", nil); err != nil {
		b.Fatal(err)
	}
	return all[0], all[1]
}

// BenchmarkCall is a call of 286 bytes there and back, both ends here.
func BenchmarkCall(b *testing.B) {
	for _, flying := range []int{1, 64} {
		b.Run(fmt.Sprintf("flying=%d", flying), func(b *testing.B) {
			one, two := loopback(b)
			request := make([]byte, 286)
			took := make([]time.Duration, b.N)
			var next atomic.Int64
			var callers sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for range flying {
				callers.Go(func() {
					for {
						i := int(next.Add(1)) - 1
						if i >= b.N {
							return
						}
						begin := time.Now()
						if _, err := one.Call(b.Context(), two.ID(), "echo", request); err != nil {
							b.Error(err)
							return
						}
						took[i] = time.Since(begin)
					}
				})
			}
			callers.Wait()
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
			b.ReportMetric(float64(took[b.N/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[b.N*99/100].Microseconds()), "p99-µs")
		})
	}
}

// BenchmarkStream is bulk on one stream.
func BenchmarkStream(b *testing.B) {
	one, two := loopback(b)
	s, err := one.Open(b.Context(), two.ID(), "sink")
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	chunk := make([]byte, 64<<10)
	b.SetBytes(int64(len(chunk)))
	b.ResetTimer()
	for range b.N {
		if _, err := s.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.CloseWrite(); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
		b.Fatal(err)
	}
}
