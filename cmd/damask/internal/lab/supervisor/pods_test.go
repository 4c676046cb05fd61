package supervisor

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

func TestAPodIsAddedAgainWhenThePluginAsksForThat(t *testing.T) {
	later := fmt.Errorf("add pod red/a: %w", types.NewError(types.ErrTryAgainLater, "no VNID of red within 3s", ""))
	broken := errors.New("no such node")
	for _, tc := range []struct {
		name    string
		answers []error
		want    error
	}{
		{"at once", []error{nil}, nil},
		{"the second time", []error{later, nil}, nil},
		{"never, for another reason", []error{broken}, broken},
		{"another reason after the first", []error{later, broken}, broken},
	} {
		t.Run(tc.name, func(t *testing.T) {
			calls := 0
			err := patiently(t.Context(), func() error {
				calls++
				return tc.answers[calls-1]
			})
			if !errors.Is(err, tc.want) || calls != len(tc.answers) {
				t.Errorf("%v after %d tries, want %v after %d", err, calls, tc.want, len(tc.answers))
			}
		})
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := patiently(ended, func() error { return later }); !errors.Is(err, later) {
		t.Errorf("without time: %v, want the plugin's answer", err)
	}
}
