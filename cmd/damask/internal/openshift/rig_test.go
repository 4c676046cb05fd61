package openshift

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/kubetest"
)

// transport is a way to the API server that a test stands in.
type transport func(r *http.Request, next http.RoundTripper) (*http.Response, error)

// through answers a client of a user's whose requests a test sees.
func through(t *testing.T, user *kubetest.User, see transport) *Client {
	t.Helper()
	config := user.Config()
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return tripper{see, next} })
	c, err := newClient(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type tripper struct {
	see  transport
	next http.RoundTripper
}

func (r tripper) RoundTrip(request *http.Request) (*http.Response, error) {
	return r.see(request, r.next)
}

// says is an answer of an API server that refuses.
func says(r *http.Request, code int, reason, more string) *http.Response {
	text := fmt.Sprintf(`{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": %q, %s"code": %d, "message": "as the test has it"}`, reason, more, code)
	return &http.Response{
		StatusCode: code, Status: http.StatusText(code), Proto: r.Proto, ProtoMajor: r.ProtoMajor, ProtoMinor: r.ProtoMinor, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(text)), ContentLength: int64(len(text)),
	}
}

// grant is a role of that name, and that a group has it.
func grant(name, group, rule string) string {
	const api = "rbac.authorization.k8s.io"
	return fmt.Sprintf(`{apiVersion: %[1]s/v1, kind: ClusterRole, metadata: {name: %[2]s}, rules: [%[4]s]}
---
{apiVersion: %[1]s/v1, kind: ClusterRoleBinding, metadata: {name: %[2]s}, roleRef: {apiGroup: %[1]s, kind: ClusterRole, name: %[2]s}, subjects: [{kind: Group, name: %[3]s, apiGroup: %[1]s}]}
`, api, name, group, rule)
}

// await waits until a user may do something: the API server hears of roles by a watch of its
// own.
func await(t *testing.T, user *kubetest.User, verb, resource string) {
	t.Helper()
	for until := time.Now().Add(time.Minute); ; {
		out, err := user.TryKubectl("auth", "can-i", verb, resource)
		if err == nil {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("it may still not %s %s: %s", verb, resource, out)
		}
	}
}

// expect expects an error that says all of it.
func expect(t *testing.T, err error, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("the error does not say %q: %v", text, err)
		}
	}
}
