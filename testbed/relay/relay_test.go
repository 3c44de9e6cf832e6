package relay

import (
	"context"
	"net"
	"testing"
	"time"
)

// peer is a socket behind the relay.
func peer(t *testing.T, r *Relay, name string) (*net.UDPConn, *net.UDPAddr) {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	advertised, err := r.Add(name, conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	addr, err := net.ResolveUDPAddr("udp4", advertised)
	if err != nil {
		t.Fatal(err)
	}
	return conn, addr
}

func TestRelayCarriesCutsAndHeals(t *testing.T) {
	r := New(Link{Delay: 5 * time.Millisecond})
	a, addrA := peer(t, r, "a")
	b, addrB := peer(t, r, "b")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	defer func() { cancel(); <-done }()

	buffer := make([]byte, 100)
	send := func(text string) {
		t.Helper()
		if _, err := a.WriteToUDP([]byte(text), addrB); err != nil {
			t.Fatal(err)
		}
	}
	receive := func(want string) {
		t.Helper()
		b.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, from, err := b.ReadFromUDP(buffer)
		if err != nil || string(buffer[:n]) != want {
			t.Fatalf("received %q, %v; want %q", buffer[:n], err, want)
		}
		if from.Port != addrA.Port {
			t.Fatalf("packet came from %v; want the advertised address %v", from, addrA)
		}
	}
	send("one")
	receive("one")

	r.Isolate("a")
	send("lost")
	// The cut is known to have eaten the packet once it is counted.
	deadline := time.Now().Add(10 * time.Second)
	for _, dropped := r.Counts(); dropped == 0; _, dropped = r.Counts() {
		if time.Now().After(deadline) {
			t.Fatal("the cut dropped nothing")
		}
	}
	r.Heal()
	send("two")
	receive("two")
}

func TestRelayDropsStrangers(t *testing.T) {
	r := New(Link{})
	_, addrB := peer(t, r, "b")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	defer func() { cancel(); <-done }()
	stranger, err := net.DialUDP("udp4", nil, addrB)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, err := stranger.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for _, dropped := r.Counts(); dropped == 0; _, dropped = r.Counts() {
		if time.Now().After(deadline) {
			t.Fatal("a packet of an unknown sender was not dropped")
		}
	}
}
