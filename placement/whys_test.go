package placement

import "testing"

// Each component of an app has its own reason for not being at a peer.
func TestWhyAComponentFailed(t *testing.T) {
	p, _ := newTestPeer("a")
	p.failed(&claim{UID: "u", Component: "image"}, 0, "the image is damaged")
	p.failed(&claim{UID: "u", Component: "api"}, 0, "exited with code 2")
	p.failed(&claim{UID: "other", Component: "api"}, 0, "exited with code 3")
	r := p.report("u", 0)
	for name, want := range map[string]string{"image": "the image is damaged", "api": "exited with code 2"} {
		if why := r.whyFailed(name); why != want {
			t.Errorf("%s failed because %q", name, why)
		}
	}
	if err := (&message{Report: &r}).check(0); err != nil {
		t.Error(err)
	}
	r.FailedWhys["api"] = string(make([]byte, textMax+1))
	if err := (&message{Report: &r}).check(0); err == nil {
		t.Error("a reason of any length is taken")
	}
	r.FailedWhys = nil
	if why := r.whyFailed("image"); why != r.Why || why == "" {
		t.Errorf("of a peer of an older release the reason is %q", why)
	}
}
