package configfile_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/configfile"
)

type place struct {
	Addr  netip.Addr    `yaml:"addr"`
	Every time.Duration `yaml:"every"`
}

type whole struct {
	place   `yaml:",inline"`
	Inner   place             `yaml:"inner"`
	Servers []string          `yaml:"servers"`
	Labels  map[string]string `yaml:"labels"`
	Maybe   *place            `yaml:"maybe"`
	derived int
}

func TestDifferencesAreTheFieldsOfTheFile(t *testing.T) {
	made := func() whole {
		return whole{
			place: place{netip.MustParseAddr("192.0.2.1"), time.Second}, Inner: place{Every: time.Minute},
			Servers: []string{"a", "b"}, Labels: map[string]string{"x": "y"}, Maybe: &place{Every: 1},
		}
	}
	for _, tc := range []struct {
		change func(*whole)
		want   []string
	}{
		{func(*whole) {}, nil},
		{func(w *whole) { w.derived = 1 }, nil},
		{func(w *whole) { w.Addr = netip.MustParseAddr("192.0.2.2") }, []string{"addr"}},
		{func(w *whole) { w.Inner.Addr = w.Addr; w.Inner.Every = 0 }, []string{"inner.addr", "inner.every"}},
		{func(w *whole) { w.Servers[1] = "c"; w.Labels = nil }, []string{"servers", "labels"}},
		{func(w *whole) { w.Maybe = &place{Every: 1} }, nil},
		{func(w *whole) { w.Maybe = nil }, []string{"maybe"}},
	} {
		a, b := made(), made()
		tc.change(&b)
		if got := configfile.Differences(&a, &b); !slices.Equal(got, tc.want) {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}
