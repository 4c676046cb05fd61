package rpcerr_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/rpcerr"
)

func TestAReasonSurvivesWrapping(t *testing.T) {
	err := rpcerr.New(codes.FailedPrecondition, "ipam.damask", "OVERLAP", "10.1.0.0/23 is taken", map[string]string{"owner": "n1"})
	wrapped := fmt.Errorf("register node: %w", err)
	if got := rpcerr.Reason(wrapped); got != "OVERLAP" {
		t.Errorf("reason %q", got)
	}
	if got := rpcerr.Metadata(wrapped)["owner"]; got != "n1" {
		t.Errorf("owner %q", got)
	}
	if got := status.Code(wrapped); got != codes.FailedPrecondition {
		t.Errorf("code %v", got)
	}
	if got := rpcerr.Message(err); got != "10.1.0.0/23 is taken" {
		t.Errorf("message %q", got)
	}
}

func TestAnErrorWithoutReasonHasNone(t *testing.T) {
	for _, err := range []error{nil, errors.New("x"), status.Error(codes.NotFound, "x")} {
		if got := rpcerr.Reason(err); got != "" {
			t.Errorf("%v: reason %q", err, got)
		}
		if got := rpcerr.List(err); len(got) != 0 {
			t.Errorf("%v: violations %v", err, got)
		}
	}
	if got := rpcerr.Message(errors.New("plain")); got != "plain" {
		t.Errorf("message %q", got)
	}
}

func TestEveryViolationIsNamed(t *testing.T) {
	var v rpcerr.Violations
	if err := v.Err("ipam.damask"); err != nil {
		t.Fatalf("none: %v", err)
	}
	v.Addf("node", "required")
	v.Addf("host_ips[1]", "%q is not an address", "x")
	err := v.Err("ipam.damask")
	if status.Code(err) != codes.InvalidArgument || rpcerr.Reason(err) != rpcerr.ReasonInvalidField {
		t.Errorf("got %v, reason %q", err, rpcerr.Reason(err))
	}
	want := []rpcerr.Violation{{Field: "node", Reason: "required"}, {Field: "host_ips[1]", Reason: `"x" is not an address`}}
	if got := rpcerr.List(err); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := rpcerr.Message(err); got != `node: required; host_ips[1]: "x" is not an address` {
		t.Errorf("message %q", got)
	}
}
