package kube

import (
	"fmt"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/kube"
)

func TestBandwidthIsWhatBothAnnotationsSay(t *testing.T) {
	for _, tc := range []struct {
		ingress, egress string // "-": not there
		want            string
		problems        []string
	}{
		{"-", "-", "0 0", nil},
		{"10M", "-", "10000000 0", nil},
		{"1k", "1P", "1000 1000000000000000", nil},
		{"1Mi", "0.5M", "1048576 500000", nil},
		{"999", "10M", "0 0", []string{"kubernetes.io/ingress-bandwidth: 999 is not 1k to 1P"}},
		{"10M", "2P", "0 0", []string{"kubernetes.io/egress-bandwidth: 2P is not 1k to 1P"}},
		{"fast", "-5M", "0 0", []string{`kubernetes.io/ingress-bandwidth: "fast" is no quantity`, "kubernetes.io/egress-bandwidth: -5M is not"}},
		{"", "10M", "0 0", []string{"ingress-bandwidth"}},
	} {
		annotations := map[string]string{}
		for name, value := range map[string]string{kube.IngressBandwidth: tc.ingress, kube.EgressBandwidth: tc.egress} {
			if value != "-" {
				annotations[name] = value
			}
		}
		b, problems := bandwidthOf(annotations)
		if got := fmt.Sprintf("%d %d", b.GetIngressRate(), b.GetEgressRate()); got != tc.want || len(problems) != len(tc.problems) {
			t.Errorf("%q: got %s and %q, want %s and %q", annotations, got, problems, tc.want, tc.problems)
			continue
		}
		for i, problem := range tc.problems {
			if !strings.Contains(problems[i], problem) {
				t.Errorf("%q: problem %q does not say %q", annotations, problems[i], problem)
			}
		}
	}
}

func FuzzBandwidthIsInBoundsOrRefused(f *testing.F) {
	for _, text := range []string{"10M", "1k", "1P", "1e3", "-1", "1Ei", "0.0001k", "", "9223372036854775807", "1E"} {
		f.Add(text, text)
	}
	f.Fuzz(func(t *testing.T, ingress, egress string) {
		b, problems := bandwidthOf(map[string]string{kube.IngressBandwidth: ingress, kube.EgressBandwidth: egress})
		if (b == nil) == (len(problems) == 0) {
			t.Fatalf("%q, %q: %v and %q", ingress, egress, b, problems)
		}
		for _, rate := range []uint64{b.GetIngressRate(), b.GetEgressRate()} {
			if b != nil && (rate < 1e3 || rate > 1e15) {
				t.Errorf("%q, %q: %v", ingress, egress, b)
			}
		}
	})
}
