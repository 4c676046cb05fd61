package kubetest_test

import (
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAServiceAccountMayDoWhatItsManifestSays(t *testing.T) {
	t.Parallel()
	cluster, _ := start(t)
	user := cluster.AsServiceAccount(t, "testdata/account.yaml")
	const me = "{.status.userInfo.username} {.status.userInfo.groups}"
	want := `system:serviceaccount:tools:reader ["system:serviceaccounts","system:serviceaccounts:tools","system:authenticated"]`
	if out := user.Kubectl(t, "auth", "whoami", "-o", "jsonpath="+me); out != want {
		t.Errorf("the API server takes it for %s, want %s", out, want)
	}
	// Roles are in force once the API server's own watch has shown them.
	pods := client(t, user)
	for until := time.Now().Add(time.Minute); ; {
		_, err := pods.Pods("red").List(t.Context(), metav1.ListOptions{})
		if err == nil {
			break
		}
		if !apierrors.IsForbidden(err) || time.Now().After(until) {
			t.Fatal(err)
		}
	}
	if _, err := pods.Pods("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("list pods of another namespace: got %v, want forbidden", err)
	}
}
