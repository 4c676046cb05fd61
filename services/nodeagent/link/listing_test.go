package link

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestAListThatChangedMeanwhileIsListedAnew(t *testing.T) {
	for name, c := range map[string]struct {
		interrupted int // how often
		then        error
		tries       int
		want        error
	}{
		"at once":            {0, nil, 1, nil},
		"after three":        {3, nil, 4, nil},
		"an error is an end": {1, errors.ErrUnsupported, 2, errors.ErrUnsupported},
		"without an end":     {1000, nil, maxListings, netlink.ErrDumpInterrupted},
	} {
		t.Run(name, func(t *testing.T) {
			tries := 0
			got, err := listed(func() ([]int, error) {
				if tries++; tries <= c.interrupted {
					return []int{0}, fmt.Errorf("list: %w", netlink.ErrDumpInterrupted)
				}
				return []int{1, 2}, c.then
			})
			if tries != c.tries || !errors.Is(err, c.want) || c.want == nil && len(got) != 2 {
				t.Errorf("after %d tries: got %v, %v", tries, got, err)
			}
		})
	}
}
