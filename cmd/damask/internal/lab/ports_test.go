package lab

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	labv1 "github.com/damask-sdn/damask/proto/damask/lab/v1"
)

func TestPortsOfTheCommandLine(t *testing.T) {
	got, err := parsePorts([]string{"http=8080", "dns=5353/UDP", "=80"})
	want := []*labv1.ContainerPort{{Name: "http", ContainerPort: 8080}, {Name: "dns", ContainerPort: 5353, Protocol: "UDP"}, {ContainerPort: 80}}
	if err != nil || len(got) != len(want) {
		t.Fatalf("got %v, error %v", got, err)
	}
	for i := range want {
		if !proto.Equal(got[i], want[i]) {
			t.Errorf("got %v, want %v", got[i], want[i])
		}
	}
	wrong := []string{"8080", "http=", "http=0", "http=70000", "http=x/TCP"}
	_, err = parsePorts(wrong)
	for _, text := range wrong {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error %v does not say %q", err, text)
		}
	}
}
