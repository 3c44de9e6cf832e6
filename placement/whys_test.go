package placement

import "testing"

// Each component of an app has its own reason for not being at a peer.
func TestWhyAComponentFailed(t *testing.T) {
	p, _ := newTestPeer("a")
	p.failed(&claim{UID: "u", Component: "image"}, 0, WorkState{Reason: "the image is damaged"})
	p.failed(&claim{UID: "u", Component: "api"}, 0, WorkState{Reason: "exited with code 2"})
	p.failed(&claim{UID: "other", Component: "api"}, 0, WorkState{Reason: "exited with code 3"})
	r := p.report("u", 0)
	for name, want := range map[string]string{"image": "the image is damaged", "api": "exited with code 2"} {
		if why := r.failedWhy(name); why != want {
			t.Errorf("%s failed because %q", name, why)
		}
	}
	if err := (&message{Report: &r}).check(0); err != nil {
		t.Error(err)
	}
	r.FailedWhy["api"] = string(make([]byte, textMax+1))
	if err := (&message{Report: &r}).check(0); err == nil {
		t.Error("a reason of any length is taken")
	}
	r.FailedWhy = nil
	if why := r.failedWhy("image"); why != r.Why || why == "" {
		t.Errorf("of a peer of an older release the reason is %q", why)
	}
}
