package docker_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/docker"
	"github.com/hansa-mesh/hansa/node/driver/drivertest"
)

// fromRegistry is a task that runs an image of a registry.
func fromRegistry(r *registry, id, image string, verb ...string) driver.Task {
	task := program(id, verb...)
	task.Container.Image = r.name(image)
	return task
}

// forget removes an image, so that it has to be pulled.
func (h *host) forget(t testing.TB, image string) {
	t.Helper()
	cli := h.client(t)
	defer cli.Close()
	if _, err := cli.ImageRemove(context.Background(), image, client.ImageRemoveOptions{Force: true}); err != nil {
		t.Log(err) // it may never have come
	}
}

func ended(t *testing.T, d *docker.Driver, id string) driver.Status {
	t.Helper()
	var s driver.Status
	drivertest.Eventually(t, "the end of "+id, func() bool {
		all, err := d.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s = range all {
			if s.ID == id && s.State.Ended() {
				return true
			}
		}
		return false
	})
	return s
}

func TestPull(t *testing.T) {
	h := engine(t, "docker")
	r := newRegistry(t)
	r.push(t, "1", "first")
	p := newPlace(t, h)
	d, _ := p.running(t, nil)
	t.Cleanup(func() { h.forget(t, r.name("shop/api:1")) })
	var wg sync.WaitGroup
	for _, id := range []string{"c/0", "c/1", "c/2"} {
		wg.Go(func() {
			if _, err := d.Start(t.Context(), fromRegistry(r, id, "shop/api:1", "env")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, id := range []string{"c/0", "c/1", "c/2"} {
		ended(t, d, id)
		if text := drivertest.LogText(t, d, id); !strings.Contains(text, "IMAGE=first") {
			t.Errorf("%s ran in\n%s", id, text)
		}
	}
	// The tag moves: what is restarted in place runs what it ran, and needs no
	// registry for it.
	r.push(t, "1", "second")
	if err := h.pull(t, r.name("shop/api:1")); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	asked := r.asked
	r.mu.Unlock()
	s, err := d.Start(t.Context(), fromRegistry(r, "c/0", "shop/api:1", "env"))
	if err != nil || s.Starts != 2 {
		t.Fatalf("started again it is %+v, %v", s, err)
	}
	ended(t, d, "c/0")
	if text := drivertest.LogText(t, d, "c/0"); strings.Count(text, "IMAGE=first") != 2 {
		t.Errorf("started again it ran in\n%s", text)
	}
	if _, err := d.Start(t.Context(), fromRegistry(r, "c/9", "shop/api:1", "env")); err != nil {
		t.Fatal(err)
	}
	ended(t, d, "c/9")
	if text := drivertest.LogText(t, d, "c/9"); !strings.Contains(text, "IMAGE=second") {
		t.Errorf("a new task ran in\n%s", text)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked != asked {
		t.Errorf("the registry was asked %d times for images that are present", r.asked-asked)
	}
}

func (h *host) pull(t testing.TB, image string) error {
	cli := h.client(t)
	defer cli.Close()
	stream, err := cli.ImagePull(context.Background(), image, client.ImagePullOptions{})
	if err != nil {
		return err
	}
	return stream.Wait(context.Background())
}

// TestPullsThatFail are bounded, say why, and leave nothing.
func TestPullsThatFail(t *testing.T) {
	h := engine(t, "docker")
	p := newPlace(t, h)
	p.c.PullQuiet = 2 * time.Second
	d, _ := p.running(t, nil)
	const password = "the-password-that-is-nowhere"
	for name, tc := range map[string]struct {
		prepare func(r *registry)
		image   string
		user    string
		invalid bool
		says    []string
	}{
		"no such image":         {nil, "shop/none:2", "", false, []string{"no such image", "shop/none"}},
		"no reference":          {nil, "Not A Reference", "", true, []string{"Not A Reference"}},
		"no credentials":        {func(r *registry) { r.user, r.password = "ann", password }, "shop/api:1", "", false, []string{"wants credentials"}},
		"wrong credentials":     {func(r *registry) { r.user, r.password = "ann", "another" }, "shop/api:1", "ann", false, []string{"refuses", "ann"}},
		"a registry that hangs": {func(r *registry) { r.hang = true }, "shop/api:1", "", false, []string{"says nothing", "2s"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRegistry(t)
			r.push(t, "1", "first")
			if tc.prepare != nil {
				tc.prepare(r)
			}
			task := fromRegistry(r, "c/0", tc.image, "run")
			task.Container.Username, task.Container.Password = tc.user, password
			if tc.user == "" {
				task.Container.Password = ""
			}
			_, err := d.Start(t.Context(), task)
			if err == nil || errors.Is(err, driver.ErrInvalid) != tc.invalid {
				t.Fatalf("Start: %v", err)
			}
			if errors.Is(err, driver.ErrNotFound) != (name == "no such image") {
				t.Errorf("whether it is not found: %v", err)
			}
			for _, want := range tc.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q: %v", want, err)
				}
			}
			if strings.Contains(err.Error(), password) {
				t.Errorf("the error tells the password: %v", err)
			}
			if all, err := d.List(t.Context()); err != nil || len(all) != 0 {
				t.Errorf("List after it: %v, %v", all, err)
			}
		})
	}
	t.Run("right credentials", func(t *testing.T) {
		r := newRegistry(t)
		r.user, r.password = "ann", password
		r.push(t, "1", "first")
		task := fromRegistry(r, "c/0", "shop/api:1", "run")
		task.Container.Username, task.Container.Password = "ann", password
		t.Cleanup(func() { h.forget(t, r.name("shop/api:1")) })
		if s, err := d.Start(t.Context(), task); err != nil || s.State != driver.StateRunning {
			t.Fatalf("Start: %+v, %v", s, err)
		}
		if err := d.Stop(t.Context(), "c/0", -1); err != nil {
			t.Error(err)
		}
	})
}

// TestPullOutlivesItsCaller gives a Start up: the pull goes on, and the next
// Start waits for the same one.
func TestPullOutlivesItsCaller(t *testing.T) {
	h := engine(t, "docker")
	r := newRegistry(t)
	r.hang = true
	p := newPlace(t, h)
	p.c.PullQuiet = time.Hour
	d, _ := p.running(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := d.Start(ctx, fromRegistry(r, "c/0", "shop/api:1", "run"))
		done <- err
	}()
	drivertest.Eventually(t, "the registry to be asked", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.asked > 0
	})
	// Meanwhile others start, and what is being pulled can be stopped.
	if _, err := d.Start(t.Context(), program("c/1", "run")); err != nil {
		t.Error(err)
	}
	if err := d.Stop(t.Context(), "c/0", 0); err != nil {
		t.Errorf("Stop of what is being pulled: %v", err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Start: %v, want the context's error", err)
	}
	if err := d.Stop(context.Background(), "c/1", -1); err != nil {
		t.Error(err)
	}
}
