package datapath

import (
	"errors"
	"strings"
	"testing"
)

func TestWhatIsAskedForIsWhatTheMachineCanDo(t *testing.T) {
	none := errors.New("no taps")
	for _, c := range []struct {
		ask    string
		kernel bool
		taps   error
		want   string // the name, or the error
	}{
		{System, true, none, System},
		{System, false, nil, "the kernel has no openvswitch module"},
		{Auto, true, none, System},
		{Auto, false, nil, Netdev},
		{Auto, false, none, "no taps"},
		{Netdev, true, nil, Netdev},
		{Netdev, true, none, "no taps"},
		{"dpdk", true, nil, `datapath "dpdk" is none of system, netdev, auto`},
	} {
		got, err := choose(c.ask, func() (bool, error) { return c.kernel, nil }, func() error { return c.taps })
		if err != nil && !strings.HasPrefix(err.Error(), c.want) || err == nil && got.Name != c.want {
			t.Errorf("%s where the module is there: %t: got %q, %v, want %q", c.ask, c.kernel, got.Name, err, c.want)
		}
	}
}

func TestNetdevNeverAsksTheKernel(t *testing.T) {
	asked, tapped := false, func() error { return nil }
	ask := func() (bool, error) { asked = true; return false, errors.New("asked") }
	if _, err := choose(Netdev, ask, tapped); err != nil || asked {
		t.Errorf("got %v, the kernel was asked: %t", err, asked)
	}
	if _, err := choose(Auto, ask, tapped); err == nil {
		t.Error("a kernel that cannot be asked counts as an answer")
	}
}
